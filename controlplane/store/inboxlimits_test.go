package store_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// A report with the largest values that the rules of reports allow can be stored.
func TestLargestReportIsStored(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2"))
		large := update("lb-1", task.ID, 1, math.MaxInt64, tasker.Succeeded)
		large.Instance = strings.Repeat("i", 256)
		large.Update.Error = strings.Repeat("e", 1<<20)
		large.Update.Reason = "\xf0\x28\x8c\x28"
		large.Update.Result = []byte(`"` + strings.Repeat("x", tasker.MaxResult-2) + `"`)
		large.Update.OutputBytes = math.MaxInt64
		large.Update.ExitCode = new(int)
		*large.Update.ExitCode = math.MinInt32
		checked, err := reportrules.Check(large)
		must(t, err)
		f.apply(t, checked, update("lb-2", task.ID, 1, 1, tasker.Succeeded))
		r := f.want(t, task.ID, "succeeded", "lb-1", "succeeded", "lb-2", "succeeded")["lb-1"]
		if len(r.Result) != tasker.MaxResult || len(r.Error) != 16<<10 || r.OutputBytes < 1<<40 || *r.ExitCode != math.MinInt32 {
			t.Errorf("result of %d bytes, error of %d bytes, output of %d bytes, exit code %d", len(r.Result), len(r.Error), r.OutputBytes, *r.ExitCode)
		}
	})
}

// Every reported time is stored between the release of the order and now, whatever the
// agent reports, and the task can be encoded.
func TestReportedTimesAreStoredInRange(t *testing.T) {
	at := func(s string) *time.Time {
		moment, err := time.Parse(time.RFC3339, s)
		must(t, err)
		return &moment
	}
	first, last := at("0001-01-01T00:00:00Z"), at("9999-12-31T23:59:59-23:59")
	for name, times := range map[string][3]*time.Time{
		"far ahead and far behind":    {last, first, nil},
		"far behind and far ahead":    {first, last, last},
		"no time of receipt":          {nil, last, first},
		"only the end":                {nil, nil, last},
		"only the start, far behind":  {nil, first, nil},
		"all far behind":              {first, first, first},
		"end before start":            {at("2026-01-02T03:04:08Z"), at("2026-01-02T03:04:09Z"), at("2026-01-02T03:04:07Z")},
		"received later than started": {at("2026-01-02T03:04:09Z"), at("2026-01-02T03:04:06Z"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				task := f.create(t, request("a", "lb-1"))
				f.send(t, 1)
				released := f.Now()
				f.Add(10 * time.Second)
				u := update("lb-1", task.ID, 1, 1, tasker.Failed)
				u.Update.ReceivedAt, u.Update.StartedAt, u.Update.FinishedAt = times[0], times[1], times[2]
				f.apply(t, u)
				_, responses := f.task(t, task.ID)
				r := responses["lb-1"]
				last := released.Truncate(time.Microsecond)
				for i, got := range []*time.Time{r.ReceivedAt, r.StartedAt, r.FinishedAt} {
					if (got != nil) != (times[i] != nil) || got != nil && (got.Before(last) || got.After(f.Now())) {
						t.Errorf("time %d is %v, want one in [%v, %v]", i, got, last, f.Now())
					}
					if got != nil {
						last = *got
					}
				}
				if _, err := json.Marshal(r); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An attempt keeps at most 320 KiB of output, and none that was printed after its end.
func TestOutputOfAnAttemptIsBounded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		report := func(seq int64, status tasker.ResponseStatus, total int64, chunks ...tasker.Chunk) {
			u := update("lb-1", task.ID, 1, seq, status)
			u.Update.Output, u.Update.OutputBytes = chunks, total
			f.apply(t, u)
		}
		stored := func() (n int) {
			out, err := f.Output(t.Context(), "ping", "a", "lb-1")
			must(t, err)
			for _, c := range out.Chunks {
				n += len(c.Data)
			}
			return n
		}
		large := bytes.Repeat([]byte("x"), 3<<20)
		report(2, tasker.Running, 10, tasker.Chunk{Data: large[:10]})
		report(3, tasker.Running, 30, tasker.Chunk{Data: large[:30]}) // was sent again, with more
		if n := stored(); n != 30 {
			t.Errorf("%d bytes, want 30", n)
		}
		for i := range 20 {
			offset := int64(i * 1000)
			report(int64(4+i), tasker.Running, 10<<20, tasker.Chunk{Offset: offset, Data: large}, tasker.Chunk{Offset: math.MaxInt64 - 5, Data: large})
		}
		if n := stored(); n != 320<<10 {
			t.Errorf("%d bytes, want 320 KiB", n)
		}
	})
}

// Output that arrives after the end of its attempt is kept only if it was overtaken.
func TestOutputAfterTheEnd(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		report := func(seq int64, status tasker.ResponseStatus, total int64, chunks ...tasker.Chunk) {
			u := update("lb-1", task.ID, 1, seq, status)
			u.Update.Output, u.Update.OutputBytes = chunks, total
			f.apply(t, u)
		}
		report(5, tasker.Succeeded, 8, tasker.Chunk{Offset: 5, Data: []byte("end")})
		report(6, tasker.Running, 100, tasker.Chunk{Offset: 8, Data: []byte("later")})
		report(5, tasker.Succeeded, 100, tasker.Chunk{Offset: 8, Data: []byte("again")})
		report(4, tasker.Running, 100, tasker.Chunk{Data: []byte("first and more than that")})
		out, err := f.Output(t.Context(), "ping", "a", "lb-1")
		must(t, err)
		if diff := cmp.Diff([]tasker.Chunk{{Data: []byte("first")}, {Offset: 5, Data: []byte("end")}}, out.Chunks); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
	})
}
