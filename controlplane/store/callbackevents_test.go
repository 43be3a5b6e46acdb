package store_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// withCallback is a request with a callback for the events.
func withCallback(identifier string, events []tasker.CallbackEvent, endpoints ...string) store.NewTask {
	n := request(identifier, endpoints...)
	n.Callback = &tasker.Callback{URL: "https://hooks.example.net/?a=1&b=2", Events: events}
	return n
}

// events lists the callback events of a task in their order.
func (f *fixture) events(t *testing.T, id string) []tasker.CallbackEvent {
	t.Helper()
	list, err := f.Deliveries(t.Context(), id)
	must(t, err)
	var events []tasker.CallbackEvent
	for _, d := range list {
		events = append(events, d.Event)
	}
	return events
}

func claimCalls(t *testing.T, s *store.Store, want int) []store.Call {
	t.Helper()
	calls, err := s.ClaimCalls(t.Context(), 100)
	must(t, err)
	if len(calls) != want {
		t.Fatalf("%d calls are due, want %d", len(calls), want)
	}
	return calls
}

// Each change creates one event, and another one when it happens again.
func TestCallbackEvents(t *testing.T) {
	const finished, incomplete = tasker.CallbackFinished, tasker.CallbackIncomplete
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, withCallback("x", tasker.CallbackEvents(), "a", "b"))
		finishedOnly := f.create(t, withCallback("some", []tasker.CallbackEvent{finished}, "a", "b"))
		none := f.create(t, request("none", "a", "b"))
		check := func(step string, task tasker.Task, want ...tasker.CallbackEvent) {
			t.Helper()
			if got := f.events(t, task.ID); !slices.Equal(got, want) {
				t.Errorf("%s: %s has the events %v, want %v", step, task.Identifier, got, want)
			}
		}
		applyAll := func(attempt int, seq int64, endpoint string, status tasker.ResponseStatus) {
			t.Helper()
			for _, task := range []tasker.Task{task, finishedOnly, none} {
				f.apply(t, update(endpoint, task.ID, attempt, seq, status))
			}
		}
		f.send(t, 6)
		applyAll(1, 1, "a", tasker.Running)
		check("running", task)
		f.newCommits()
		f.Add(time.Minute)
		f.expire(t, 3) // b is missing
		check("missing", task, incomplete)
		check("missing", finishedOnly)
		if commits := f.newCommits(); !slices.ContainsFunc(commits, func(c store.Commit) bool { return c.Callbacks }) {
			t.Errorf("no commit has Callbacks: %+v", commits)
		}
		applyAll(1, 2, "a", tasker.Succeeded)
		check("ended", task, incomplete, finished)
		check("ended", finishedOnly, finished)
		applyAll(1, 1, "b", tasker.Failed) // late
		check("failed late", task, incomplete, finished, finished)
		_, err := f.RetryTask(t.Context(), "ping", "x", "")
		must(t, err)
		check("retried", task, incomplete, finished, finished)
		f.apply(t, update("b", task.ID, 2, 1, tasker.Succeeded))
		check("succeeded", task, incomplete, finished, finished, finished)
		f.apply(t, update("b", task.ID, 2, 1, tasker.Succeeded)) // a repetition
		check("repeated", task, incomplete, finished, finished, finished)
		check("at the end", none)

		statuses := []tasker.TaskStatus{}
		for _, c := range claimCalls(t, f.Store, 6) {
			if c.TaskID != task.ID {
				continue
			}
			var fields map[string]json.RawMessage
			must(t, json.Unmarshal(c.Data, &fields))
			for _, field := range []string{"payload", "endpoints"} {
				if _, found := fields[field]; found {
					t.Errorf("the data has %s: %s", field, c.Data)
				}
			}
			var data tasker.Task
			must(t, json.Unmarshal(c.Data, &data))
			statuses = append(statuses, data.Status)
			if data.ID != task.ID || data.Identifier != "x" || c.URL != task.Callback.URL || c.Attempt != 1 {
				t.Errorf("%+v with %s", c, c.Data)
			}
		}
		want := []tasker.TaskStatus{tasker.TaskIncomplete, tasker.TaskIncomplete, tasker.TaskFailed, tasker.TaskSucceeded}
		slices.Sort(statuses)
		slices.Sort(want)
		if !slices.Equal(statuses, want) {
			t.Errorf("the callbacks have the statuses %v, want %v", statuses, want)
		}
	})
}

// A late report that changes the final status creates another event.
func TestCallbackOfLateReport(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, withCallback("x", tasker.CallbackEvents(), "a"))
		f.send(t, 1)
		f.apply(t, hello("a", "s"), update("a", task.ID, 1, 1, tasker.Running))
		f.Add(2 * time.Hour)
		if n, _, err := f.ExpireSilent(t.Context(), time.Hour, 10); err != nil || n != 1 {
			t.Fatalf("ExpireSilent = %d, %v", n, err)
		}
		f.apply(t, update("a", task.ID, 1, 2, tasker.Succeeded))
		if got := f.events(t, task.ID); !slices.Equal(got, []tasker.CallbackEvent{tasker.CallbackFinished, tasker.CallbackFinished}) {
			t.Errorf("the events are %v", got)
		}
	})
}

// The event of a pause has the state of the rollout, whether a person or the gate paused
// it. The undo task has the same callback.
func TestCallbackOfPause(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := withCallback("x", tasker.CallbackEvents(), "a", "b")
		n.Rollout = &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}}}
		task := f.create(t, n)
		paused := func(reason string) {
			t.Helper()
			calls := claimCalls(t, f.Store, 1)
			var data tasker.Task
			must(t, json.Unmarshal(calls[0].Data, &data))
			r := data.Rollout
			if calls[0].Event != tasker.CallbackPaused || r == nil || r.State != tasker.RolloutPaused || r.Reason != reason || len(r.Waves) != 2 {
				t.Errorf("callback %s: %s", calls[0].Event, calls[0].Data)
			}
		}
		for range 2 { // the second one changes nothing
			_, err := f.PauseTask(t.Context(), "ping", "x", "me")
			must(t, err)
		}
		paused("paused by me")
		_, err := f.ResumeTask(t.Context(), "ping", "x", "me")
		must(t, err)
		l := store.Lease{Name: "rollouts", Holder: "test"}
		must(t, f.AcquireLease(t.Context(), l, time.Hour))
		step := func(s decision.Step) {
			t.Helper()
			_, err := f.AdvanceRollout(t.Context(), l, task.ID, func(in decision.Input) (decision.Step, error) {
				if in.Task.Rollout.State == s.State {
					s.Release = false
				}
				return s, nil
			})
			must(t, err)
		}
		step(decision.Step{State: tasker.RolloutRunning, Release: true})
		step(decision.Step{State: tasker.RolloutPaused, Resume: tasker.RolloutRunning, Reason: "the gate failed"})
		paused("the gate failed")

		f.send(t, 1)
		report := update("a", task.ID, 1, 1, tasker.Failed)
		now := f.Now()
		report.Update.StartedAt = &now
		f.apply(t, report)
		_, err = f.CancelTask(t.Context(), "ping", "x", "")
		must(t, err)
		undo, err := f.UndoTask(t.Context(), "ping", "x", "")
		must(t, err)
		if undo.Callback == nil || undo.Callback.URL != n.Callback.URL {
			t.Errorf("the undo task has the callback %+v", undo.Callback)
		}
	})
}
