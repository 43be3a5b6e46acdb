package store_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// calling is a request that is to be told of.
func calling(identifier string, events []tasker.CallbackEvent, endpoints ...string) store.NewTask {
	n := request(identifier, endpoints...)
	n.Callback = &tasker.Callback{URL: "https://hooks.example.net/?a=1&b=2", Events: events}
	return n
}

// events are those of a task, in their order.
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

func (f *fixture) calls(t *testing.T, want int) []store.Call {
	t.Helper()
	calls, err := f.ClaimCalls(t.Context(), 100)
	must(t, err)
	if len(calls) != want {
		t.Fatalf("%d calls are due, want %d", len(calls), want)
	}
	return calls
}

// Each change is told once, and again when it happens again.
func TestEvents(t *testing.T) {
	const finished, incomplete = tasker.CallbackFinished, tasker.CallbackIncomplete
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, calling("x", tasker.CallbackEvents(), "a", "b"))
		some := f.create(t, calling("some", []tasker.CallbackEvent{finished}, "a", "b"))
		none := f.create(t, request("none", "a", "b"))
		at := func(step string, of tasker.Task, want ...tasker.CallbackEvent) {
			t.Helper()
			if got := f.events(t, of.ID); !slices.Equal(got, want) {
				t.Errorf("%s: %s has the events %v, want %v", step, of.Identifier, got, want)
			}
		}
		all := func(attempt int, seq int64, endpoint string, status tasker.ResponseStatus) {
			t.Helper()
			for _, task := range []tasker.Task{task, some, none} {
				f.apply(t, update(endpoint, task.ID, attempt, seq, status))
			}
		}
		f.send(t, 6)
		all(1, 1, "a", tasker.Running)
		at("running", task)
		f.told()
		f.Add(time.Minute)
		f.expire(t, 3) // b is missing
		at("missing", task, incomplete)
		at("missing", some)
		if told := f.told(); !slices.ContainsFunc(told, func(c store.Commit) bool { return c.Callbacks }) {
			t.Errorf("OnCommit was not told: %+v", told)
		}
		all(1, 2, "a", tasker.Succeeded)
		at("ended", task, incomplete, finished)
		at("ended", some, finished)
		all(1, 1, "b", tasker.Failed) // late
		at("failed late", task, incomplete, finished, finished)
		_, err := f.RetryTask(t.Context(), "ping", "x", "")
		must(t, err)
		at("retried", task, incomplete, finished, finished)
		f.apply(t, update("b", task.ID, 2, 1, tasker.Succeeded))
		at("succeeded", task, incomplete, finished, finished, finished)
		f.apply(t, update("b", task.ID, 2, 1, tasker.Succeeded)) // a repetition
		at("repeated", task, incomplete, finished, finished, finished)
		at("at the end", none)

		statuses := []tasker.TaskStatus{}
		for _, c := range f.calls(t, 6) {
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
			t.Errorf("the tasks told are %v, want %v, as they were at the time", statuses, want)
		}
	})
}

// An agent's late word changes what a task ended as, which is told again.
func TestAnotherEndIsTold(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, calling("x", tasker.CallbackEvents(), "a"))
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

// A pause is told with the rollout as it stands then, whoever pauses it; what
// undoes a task is told to the same URL.
func TestPauseIsTold(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := calling("x", tasker.CallbackEvents(), "a", "b")
		n.Rollout = &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}}}
		task := f.create(t, n)
		paused := func(reason string) {
			t.Helper()
			calls := f.calls(t, 1)
			var data tasker.Task
			must(t, json.Unmarshal(calls[0].Data, &data))
			r := data.Rollout
			if calls[0].Event != tasker.CallbackPaused || r == nil || r.State != tasker.RolloutPaused || r.Reason != reason || len(r.Waves) != 2 {
				t.Errorf("told is %s: %s", calls[0].Event, calls[0].Data)
			}
		}
		for range 2 { // paused is paused
			_, err := f.PauseTask(t.Context(), "ping", "x", "me")
			must(t, err)
		}
		paused("paused by me")
		_, err := f.ResumeTask(t.Context(), "ping", "x", "me")
		must(t, err)
		l := store.Lease{Name: "rollouts", Holder: "test"}
		must(t, f.AcquireLease(t.Context(), l, time.Hour))
		step := func(s store.RolloutStep) {
			t.Helper()
			_, err := f.AdvanceRollout(t.Context(), l, task.ID, func(v store.RolloutView) store.RolloutStep {
				if v.Task.Rollout.State == s.State {
					s.Release = false
				}
				return s
			})
			must(t, err)
		}
		step(store.RolloutStep{State: tasker.RolloutRunning, Release: true})
		step(store.RolloutStep{State: tasker.RolloutPaused, Resume: tasker.RolloutRunning, Reason: "the gate says so"})
		paused("the gate says so")

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
			t.Errorf("the task that undoes it calls %+v", undo.Callback)
		}
	})
}

// What is stored is told, also by another process than the one that stored it, and
// until it is delivered or given up.
func TestCallIsHeldAndSettled(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, calling("x", tasker.CallbackEvents(), "a"))
		f.apply(t, update("a", task.ID, 1, 1, tasker.Succeeded))
		other := storetest.Open(t, f.options) // as after a kill
		claim := func(s *store.Store, want int) []store.Call {
			t.Helper()
			calls, err := s.ClaimCalls(t.Context(), 10)
			must(t, err)
			if len(calls) != want {
				t.Fatalf("%d calls are due, want %d", len(calls), want)
			}
			return calls
		}
		delivery := func(status tasker.DeliveryStatus, attempts int, last string) tasker.Delivery {
			t.Helper()
			list, err := f.Deliveries(t.Context(), task.ID)
			must(t, err)
			if len(list) != 1 || list[0].Status != status || list[0].Attempts != attempts || list[0].LastError != last {
				t.Fatalf("the deliveries are %+v, want one that is %s after %d attempts, last %q", list, status, attempts, last)
			}
			return list[0]
		}
		waiting := func(want int) {
			t.Helper()
			if s, err := f.Stats(t.Context()); err != nil || s.Callbacks != want {
				t.Errorf("%d callbacks wait, want %d; %v", s.Callbacks, want, err)
			}
		}
		delivery(tasker.DeliveryWaiting, 0, "")
		first := claim(other, 1)[0]
		claim(f.Store, 0)
		f.Add(store.CallbackHold)
		second := claim(f.Store, 1)[0]
		if second.ID != first.ID || second.Attempt != 2 || string(second.Data) != string(first.Data) {
			t.Errorf("claimed again it is %+v, it was %+v", second, first)
		}
		must(t, other.RecordCall(t.Context(), store.CallResult{Call: first, Error: "too late"}))
		delivery(tasker.DeliveryWaiting, 2, "")
		waiting(1)

		after := 5 * time.Second
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: second, Error: "503", RetryAfter: &after}))
		if d := delivery(tasker.DeliveryWaiting, 2, "503"); !d.NextAttemptAt.Equal(f.Now().Add(after).Truncate(time.Microsecond)) {
			t.Errorf("it is tried again at %v", d.NextAttemptAt)
		}
		claim(f.Store, 0)
		f.Add(after)
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: claim(f.Store, 1)[0]}))
		if d := delivery(tasker.DeliveryDelivered, 3, "503"); d.DeliveredAt == nil || d.NextAttemptAt != nil {
			t.Errorf("delivered it is %+v", d)
		}
		waiting(0)

		_, err := f.RetryTask(t.Context(), "ping", "x", "")
		if err == nil {
			t.Fatal("there was something to retry")
		}
		gone := f.create(t, calling("y", tasker.CallbackEvents(), "a"))
		f.apply(t, update("a", gone.ID, 1, 1, tasker.Failed))
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: claim(f.Store, 1)[0], Error: "410"}))
		f.Add(24 * time.Hour)
		claim(f.Store, 0)
		if list, err := f.Deliveries(t.Context(), gone.ID); err != nil || len(list) != 1 || list[0].Status != tasker.DeliveryGivenUp {
			t.Errorf("given up it is %+v, %v", list, err)
		}
	})
}

// Several control planes do not claim the same call.
func TestCallsAreClaimedOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const tasks = 40
		for i := range tasks {
			task := f.create(t, calling(string(rune('A'+i)), tasker.CallbackEvents(), "a"))
			f.apply(t, update("a", task.ID, 1, 1, tasker.Succeeded))
		}
		other := storetest.Open(t, f.options)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		seen := map[string]int{}
		var wg sync.WaitGroup
		for i := range 4 {
			s := []*store.Store{f.Store, other}[i%2]
			wg.Go(func() {
				// Those that another one is claiming are skipped, so none may be no end.
				for claimed := 0; claimed < tasks; {
					calls, err := s.ClaimCalls(ctx, 3)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, c := range calls {
						seen[c.ID]++
					}
					claimed = len(seen)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != tasks {
			t.Errorf("%d calls were claimed, want %d", len(seen), tasks)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
	})
}

func TestCallbackKeyIsMadeOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first, err := f.CallbackKey(t.Context(), [32]byte{1})
		must(t, err)
		second, err := storetest.Open(t, f.options).CallbackKey(t.Context(), [32]byte{2})
		must(t, err)
		orders, err := f.SigningKey(t.Context(), [32]byte{3})
		must(t, err)
		if !slices.Equal(first, second) || first[0] != 1 || orders[0] != 3 {
			t.Errorf("the keys are %x, %x, %x", first, second, orders)
		}
	})
}
