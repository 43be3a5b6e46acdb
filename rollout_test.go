package tasker_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
)

func TestAmount(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		of20 int
		out  string
	}{
		`3`: {3, `3`}, `"3"`: {3, `3`}, `0`: {0, `0`}, `"25%"`: {5, `"25%"`}, `"0%"`: {0, `"0%"`}, `"100%"`: {20, `"100%"`}, `"9%"`: {1, `"9%"`},
	} {
		var a tasker.Amount
		if err := json.Unmarshal([]byte(in), &a); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		out, err := json.Marshal(a)
		if err != nil || a.Of(20) != want.of20 || string(out) != want.out {
			t.Errorf("%s is %d of 20 and written as %s, %v; want %+v", in, a.Of(20), out, err, want)
		}
	}
	for _, in := range []string{`-1`, `"101%"`, `1.5`, `"25"x`, `""`, `"%"`, `"-1%"`, `"+2"`, `"+2%"`, `"-0"`, `" 2"`, `"1_000"`, `"9223372036854775808"`, `true`, `{}`, `[1]`} {
		if err := json.Unmarshal([]byte(in), new(tasker.Amount)); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

func TestWaveSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec  string
		total int
		want  []int
	}{
		{`{}`, 5, []int{5}},
		{`{"canary":1}`, 5, []int{1, 4}},
		{`{"canary":1,"batch":"25%"}`, 20, []int{1, 5, 5, 5, 4}},
		{`{"batch":[1,"10%","50%","100%"]}`, 100, []int{1, 10, 50, 39}},
		{`{"batch":[1,2]}`, 8, []int{1, 2, 2, 2, 1}},
		{`{"batch":"1%"}`, 3, []int{1, 1, 1}}, // no wave is empty
		{`{"canary":"50%","batch":"100%"}`, 1, []int{1}},
		{`{"canary":7,"batch":1}`, 3, []int{3}},
		{`{"canary":1}`, 0, nil},
	} {
		var s tasker.RolloutSpec
		if err := json.Unmarshal([]byte(tt.spec), &s); err != nil {
			t.Fatal(err)
		}
		s.SetDefaults()
		if got := s.WaveSizes(tt.total); !slices.Equal(got, tt.want) {
			t.Errorf("%s of %d: %v, want %v", tt.spec, tt.total, got, tt.want)
		}
	}
}

func TestUnreleased(t *testing.T) {
	t.Parallel()
	r := tasker.Rollout{Waves: []int{1, 2, 4}}
	for wave, want := range []int{7, 6, 4, 0, 0} {
		if r.Wave = wave; r.Unreleased() != want {
			t.Errorf("after %d waves: %d, want %d", wave, r.Unreleased(), want)
		}
	}
}

// TestFailures counts one response in each status.
func TestFailures(t *testing.T) {
	t.Parallel()
	failed := 0
	for _, s := range tasker.ResponseStatuses() {
		failed += tasker.Counts{s: 1}.Failures()
	}
	// failed, timed out, cancelled, rejected, interrupted, missing
	if failed != 6 {
		t.Errorf("%d of the statuses are failures, want 6", failed)
	}
	c := tasker.Counts{tasker.Succeeded: 3, tasker.Missing: 2, tasker.Failed: 1, tasker.Running: 4, tasker.Skipped: 5}
	if c.Failures() != 3 {
		t.Errorf("%v: %d failures, want 3", c, c.Failures())
	}
}

func TestArrange(t *testing.T) {
	t.Parallel()
	for order, want := range map[tasker.RolloutOrder][]string{
		tasker.OrderListed: {"c", "a", "b"}, tasker.OrderName: {"a", "b", "c"}, tasker.OrderRandom: {"b", "a", "c"},
	} {
		got := []string{"c", "a", "b"}
		order.Arrange(got, func(n int, swap func(i, j int)) { swap(0, n-1) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", order, diff)
		}
	}
}

func TestSelector(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"role": "lb", "zone": "a", "empty": ""}
	for text, want := range map[string]bool{
		"role=lb": true, "role==lb": true, "role=web": false, "role!=web": true, "role!=lb": false, "zone": true, "!zone": false,
		"rack": false, "!rack": true, "rack!=1": true, "role=lb,zone!=b": true, "role=lb,zone=b": false, " role = lb , zone": true,
		"empty=": true, "empty": true, "rack=": false,
	} {
		s, err := tasker.ParseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if s.Matches(labels) != want {
			t.Errorf("%q matches: %v, want %v", text, !want, want)
		}
	}
	for _, text := range []string{"", ",", "role=lb,", "=lb", "!", "!=b", "ro le=1", `role="lb"`, "a=b=c"} {
		if _, err := tasker.ParseSelector(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
