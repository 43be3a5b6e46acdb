package journal_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// model is the expected content of the journal.
type model struct {
	entries []journal.Entry
	reports map[journal.Ref]tasker.ResponseStatus
}

func (m *model) find(id string) *journal.Entry {
	for i := range m.entries {
		if m.entries[i].TaskID == id {
			return &m.entries[i]
		}
	}
	return nil
}

// Random changes and reopenings must lead to the same content as in the model.
func TestJournalMatchesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		j, err := journal.Open(dir, journal.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = j.Close() }()
		m := model{reports: map[journal.Ref]tasker.ResponseStatus{}}
		var sequence uint64
		ids := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		check := func(rt *rapid.T, err error, wantOK bool) {
			if (err == nil) != wantOK {
				rt.Fatalf("got error %v, want success %v", err, wantOK)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				got, err := j.Entries()
				check(rt, err, true)
				if diff := cmp.Diff(m.entries, got, cmp.Transformer("none", func(e []journal.Entry) []journal.Entry {
					return append([]journal.Entry{}, e...)
				})); diff != "" && len(m.entries)+len(got) > 0 {
					rt.Fatal(diff)
				}
				for ref, want := range m.reports {
					u, err := j.Report(ref)
					check(rt, err, true)
					if u.Status != want {
						rt.Fatalf("report of %v is %s, not %s", ref, u.Status, want)
					}
				}
			},
			"accept": func(rt *rapid.T) {
				r := record(j, ids.Draw(rt, "id"), tasker.Received)
				phase := journal.Accepted
				if rapid.Bool().Draw(rt, "starting") {
					phase, r.Starting, r.Update.Status = journal.Starting, true, tasker.Running
				}
				r.Assignment.Deadline = deadline.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "deadline")) * time.Hour)
				check(rt, j.Accept([]journal.Record{r}, nil), true)
				if m.find(r.Assignment.TaskID) != nil {
					return
				}
				sequence++
				m.entries = append(m.entries, journal.Entry{
					TaskID: r.Assignment.TaskID, Attempt: 1, Identifier: r.Assignment.Identifier, Type: "ping", Handler: "ping",
					Deadline: r.Assignment.Deadline, Sequence: sequence, Phase: phase, LastUpdate: r.Update,
				})
			},
			"start": func(rt *rapid.T) {
				u := update(j, ids.Draw(rt, "id"), tasker.Running)
				e := m.find(u.TaskID)
				ok := e != nil && e.Phase != journal.Ended
				check(rt, j.Start(u), ok)
				if ok {
					e.Phase, e.LastUpdate, e.Processes = journal.Starting, u, nil
				}
			},
			"spawned": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				p := handlers.Process{PID: rapid.IntRange(1, 9).Draw(rt, "pid")}
				e := m.find(id)
				if e == nil || e.Phase != journal.Starting {
					return
				}
				check(rt, j.AddProcess(ref(id), p), true)
				e.Processes = append(e.Processes, p)
			},
			"update": func(rt *rapid.T) {
				u := update(j, ids.Draw(rt, "id"), tasker.Running)
				e := m.find(u.TaskID)
				check(rt, j.Update(u), e != nil)
				if e != nil && e.Phase != journal.Ended {
					e.LastUpdate = u
				}
			},
			"end": func(rt *rapid.T) {
				u := update(j, ids.Draw(rt, "id"), rapid.SampledFrom([]tasker.ResponseStatus{tasker.Succeeded, tasker.Failed}).Draw(rt, "status"))
				e := m.find(u.TaskID)
				check(rt, j.End(u), e != nil)
				if e != nil && e.Phase != journal.Ended {
					e.Phase, e.LastUpdate, e.Processes = journal.Ended, u, nil
					m.reports[e.Ref()] = u.Status
				}
			},
			"confirm": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				check(rt, j.Confirm(ref(id)), true)
				if e := m.find(id); e != nil && e.Phase == journal.Ended {
					e.Confirmed = true
				}
			},
			"sweep": func(rt *rapid.T) {
				before := deadline.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "before"))*time.Hour + 1)
				_, err := j.Sweep(before)
				check(rt, err, true)
				m.entries = slices.DeleteFunc(m.entries, func(e journal.Entry) bool {
					swept := e.Confirmed && e.Deadline.Before(before)
					if swept {
						delete(m.reports, e.Ref())
					}
					return swept
				})
			},
			"reopen": func(rt *rapid.T) {
				last := j.Seq()
				check(rt, j.Close(), true)
				j, err = journal.Open(dir, journal.Options{})
				check(rt, err, true)
				if j.Seq() <= last {
					rt.Fatal("the sequence has decreased")
				}
			},
		})
	})
}
