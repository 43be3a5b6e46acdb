package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func leader() store.Lease { return store.Lease{Name: "rollouts", Holder: "test"} }

// inWaves makes a task of waves of these sizes.
func (f *fixture) inWaves(t testing.TB, identifier string, exclusive bool, endpoints ...string) tasker.Task {
	t.Helper()
	n := request(identifier, endpoints...)
	n.Rollout = &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}, {N: 2}}, Order: tasker.OrderListed, Exclusive: exclusive}
	return f.create(t, n)
}

// step decides once, and keeps what was seen.
func (f *fixture) step(t testing.TB, id string, step store.RolloutStep) store.RolloutView {
	t.Helper()
	must(t, f.AcquireLease(t.Context(), leader(), time.Minute))
	var seen store.RolloutView
	first := true
	_, err := f.AdvanceRollout(t.Context(), leader(), id, func(v store.RolloutView) store.RolloutStep {
		if !first {
			r := v.Task.Rollout
			return store.RolloutStep{State: r.State, Resume: r.Resume, Reason: r.Reason, Until: r.Until}
		}
		first, seen = false, v
		return step
	})
	must(t, err)
	return seen
}

func running() store.RolloutStep {
	return store.RolloutStep{State: tasker.RolloutRunning, Release: true}
}

func TestNothingIsSentBeforeItsWave(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-2", "lb-1", "lb-3")
		if c := f.told(); !c[0].Rollouts {
			t.Errorf("told %+v, want that there is a rollout to look at", c)
		}
		f.claim(t, 0)
		f.apply(t, hello("lb-1", "s"), hello("lb-2", "s"))
		f.claim(t, 0)
		f.Add(time.Hour)
		f.expire(t, 0) // its receive time has not begun
		f.step(t, task.ID, running())
		claims := f.send(t, 1)
		if c := claims[0]; c.Endpoint != "lb-2" || !c.Order.Assignment.Deadline.Equal(f.Now().Add(30*time.Second)) {
			t.Errorf("sent to %s with the deadline %v; want to lb-2, 30 s from now", c.Endpoint, c.Order.Assignment.Deadline)
		}
		f.apply(t, update("lb-2", task.ID, 1, 1, tasker.Succeeded))
		f.claim(t, 0)
		f.step(t, task.ID, running())
		f.send(t, 2)
		f.Add(time.Minute)
		f.expire(t, 2)
		f.want(t, task.ID, tasker.TaskIncomplete, "lb-1", "missing", "lb-2", "succeeded", "lb-3", "missing")
	})
}

func TestSkipAndRetry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2", "lb-3")
		f.step(t, task.ID, running())
		f.send(t, 1)
		u := update("lb-1", task.ID, 1, 1, tasker.Failed)
		f.apply(t, u)
		f.step(t, task.ID, store.RolloutStep{State: tasker.RolloutStopped, Reason: "1 failed", Skip: true})
		responses := f.want(t, task.ID, tasker.TaskFailed, "lb-1", "failed", "lb-2", "skipped", "lb-3", "skipped")
		if r := responses["lb-3"]; r.Reason != "1 failed" || r.Wave != 2 {
			t.Errorf("skipped: %+v", r)
		}
		if due, err := f.DueRollouts(t.Context(), 10); err != nil || len(due) != 0 {
			t.Errorf("due are %v, %v; it is over", due, err)
		}
		for _, change := range []func() error{
			func() error { _, err := f.PauseTask(t.Context(), "ping", "x", "me"); return err },
			func() error { _, err := f.ResumeTask(t.Context(), "ping", "x", "me"); return err },
		} {
			if err := change(); !errors.Is(err, store.ErrRolloutEnded) {
				t.Errorf("%v, want ErrRolloutEnded", err)
			}
		}
		again, err := f.RetryTask(t.Context(), "ping", "x", "me")
		must(t, err)
		if r := again.Rollout; r.State != tasker.RolloutWaiting || r.Wave != 0 || !slices.Equal(r.Waves, []int{1, 2}) || r.Reason != "" {
			t.Errorf("retried: %+v", r)
		}
		f.claim(t, 0)
		f.step(t, task.ID, running())
		if c := f.send(t, 1); c[0].Endpoint != "lb-1" || c[0].Attempt != 2 {
			t.Errorf("sent: %+v", c[0])
		}
		controls, err := f.Controls(t.Context(), task.ID)
		if err != nil || len(controls) != 1 || controls[0].Action != "retry" || controls[0].By != "me" || !controls[0].At.Equal(f.Now()) {
			t.Errorf("asked for: %+v, %v", controls, err)
		}
	})
}

// What has succeeded is in no wave of a retry, unless it was undone: then all begins
// anew, when that has ended.
func TestRetryOfWaves(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2", "lb-3")
		report := func(id, endpoint string, attempt int, status tasker.ResponseStatus) {
			t.Helper()
			u := update(endpoint, id, attempt, 1, status)
			now := f.Now()
			u.Update.StartedAt = &now
			f.apply(t, u)
		}
		retry := func(waves ...int) map[string]tasker.Response {
			t.Helper()
			again, err := f.RetryTask(t.Context(), "ping", "x", "me")
			must(t, err)
			if !slices.Equal(again.Rollout.Waves, waves) || again.Rollout.Wave != 0 {
				t.Errorf("retried: %+v, want waves of %v", again.Rollout, waves)
			}
			_, responses := f.task(t, task.ID)
			return responses
		}
		f.step(t, task.ID, running())
		f.send(t, 1)
		report(task.ID, "lb-1", 1, tasker.Failed)
		f.step(t, task.ID, running())
		f.send(t, 2)
		report(task.ID, "lb-2", 1, tasker.Failed)
		report(task.ID, "lb-3", 1, tasker.Succeeded)
		before := f.want(t, task.ID, tasker.TaskFailed, "lb-1", "failed", "lb-2", "failed", "lb-3", "succeeded")
		after := retry(1, 1)
		if r := after["lb-3"]; r.Wave != 0 || r.Version <= before["lb-3"].Version || after["lb-1"].Wave != 1 || after["lb-2"].Wave != 2 {
			t.Errorf("retried: %+v", after)
		}
		f.step(t, task.ID, running())
		f.send(t, 1)
		report(task.ID, "lb-1", 2, tasker.Succeeded)
		f.step(t, task.ID, running())
		f.send(t, 1)
		report(task.ID, "lb-2", 2, tasker.Failed)

		undo, err := f.UndoTask(t.Context(), "ping", "x", "me")
		must(t, err)
		f.send(t, 3)
		if _, err := f.RetryTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrUndoing) {
			t.Errorf("%v, want ErrUndoing", err)
		}
		for _, endpoint := range undo.Endpoints {
			report(undo.ID, endpoint, 1, tasker.Succeeded)
		}
		f.undoneBy(t, task.ID, undo.ID)
		retry(1, 2)
		f.undoneBy(t, task.ID, "") // the new attempt is not
		f.want(t, task.ID, tasker.TaskPending, "lb-1", "pending", "lb-2", "pending", "lb-3", "pending")
		f.step(t, task.ID, running())
		if c := f.send(t, 1); c[0].Order.Assignment.Attempt != 3 {
			t.Errorf("sent: %+v", c[0])
		}
	})
}

// A rollout that is about to be rolled back is not retried in between.
func TestRetryBeforeTheRollback(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1")
		f.step(t, task.ID, running())
		f.send(t, 1)
		f.step(t, task.ID, store.RolloutStep{State: tasker.RolloutRollingBack, Reason: "x", Skip: true})
		if _, err := f.PauseTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrRolloutEnded) || !strings.Contains(err.Error(), "rolled back") {
			t.Errorf("%v, want ErrRolloutEnded, because it is being rolled back", err)
		}
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Failed))
		if _, err := f.RetryTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrUndoing) {
			t.Errorf("%v, want ErrUndoing", err)
		}
	})
}

// What was stopped stays so, also while something of it still runs.
func TestStoppedIsNotPaused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2")
		f.step(t, task.ID, running())
		f.send(t, 1)
		f.step(t, task.ID, store.RolloutStep{State: tasker.RolloutStopped, Reason: "1 failed", Skip: true})
		if _, err := f.PauseTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrRolloutEnded) {
			t.Errorf("%v, want ErrRolloutEnded", err)
		}
		if now, _ := f.task(t, task.ID); now.Rollout.State != tasker.RolloutStopped || now.Status == tasker.TaskPaused {
			t.Errorf("%s, %s: %s", now.Status, now.Rollout.State, now.Rollout.Reason)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2")
		f.step(t, task.ID, running())
		if _, err := f.ResumeTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrNotPaused) {
			t.Errorf("%v, want ErrNotPaused", err)
		}
		paused, err := f.PauseTask(t.Context(), "ping", "x", "me")
		if stats, err := f.Stats(t.Context()); err != nil || stats.Rollouts[tasker.RolloutPaused] != 1 || stats.Rollouts[tasker.RolloutRunning] != 0 {
			t.Errorf("counted: %v, %v", stats.Rollouts, err)
		}
		if err != nil || paused.Status != tasker.TaskPaused || paused.Rollout.State != tasker.RolloutPaused || paused.Rollout.Reason != "paused by me" {
			t.Errorf("paused: %s, %+v, %v", paused.Status, paused.Rollout, err)
		}
		f.told()
		resumed, err := f.ResumeTask(t.Context(), "ping", "x", "you")
		if err != nil || resumed.Status == tasker.TaskPaused || resumed.Rollout.State != tasker.RolloutRunning {
			t.Errorf("resumed: %s, %+v, %v", resumed.Status, resumed.Rollout, err)
		}
		if c := f.told(); len(c) != 1 || !c[0].Rollouts {
			t.Errorf("told %+v", c)
		}
		f.create(t, request("plain", "lb-1"))
		if _, err := f.PauseTask(t.Context(), "ping", "plain", "me"); !errors.Is(err, store.ErrNoRollout) {
			t.Errorf("%v, want ErrNoRollout", err)
		}
		if _, err := f.CancelTask(t.Context(), "ping", "x", "me"); err != nil {
			t.Error(err)
		}
		f.want(t, task.ID, tasker.TaskCancelled, "lb-1", "cancelled", "lb-2", "cancelled")
	})
}

// TestBlockers has rollouts look for others on the same endpoints.
func TestBlockers(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		waiting := store.RolloutStep{State: tasker.RolloutWaiting}
		blocker := func(id string) string { return f.step(t, id, waiting).Blocker }
		first := f.inWaves(t, "first", true, "lb-1", "lb-2")
		second := f.inWaves(t, "second", false, "lb-2", "lb-3")
		third := f.inWaves(t, "third", false, "lb-3")
		for _, task := range []tasker.Task{first, second, third} {
			f.step(t, task.ID, waiting)
		}
		if got := blocker(first.ID); got != "" {
			t.Errorf("the first one: %q", got)
		}
		f.step(t, first.ID, running())
		if got := blocker(second.ID); !strings.Contains(got, "ping first") || !strings.Contains(got, "lb-2") {
			t.Errorf("the second one: %q", got)
		}
		if got := blocker(third.ID); got != "" {
			t.Errorf("the third one is not exclusive and shares with the second only: %q", got)
		}
		f.send(t, 1)
		f.apply(t, update("lb-1", first.ID, 1, 1, tasker.Failed))
		f.step(t, first.ID, store.RolloutStep{State: tasker.RolloutStopped, Reason: "x", Skip: true})
		if got := blocker(second.ID); got != "" {
			t.Errorf("the second one after the first: %q", got)
		}
	})
}

func TestNotBefore(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		at := f.Now().Add(time.Hour)
		named, all := request("named", "lb-1"), request("all")
		named.NotBefore, all.NotBefore = &at, &at
		task := f.create(t, named)
		f.create(t, all)
		if a := f.apply(t, hello("lb-1", "s")); len(a.Orders) != 1 {
			t.Errorf("the hello is answered by %+v; want a welcome", a.Orders)
		}
		f.claim(t, 0)
		f.Add(59 * time.Minute)
		f.expire(t, 0)
		f.Add(time.Minute)
		for _, c := range f.claim(t, 2) {
			if !c.Order.Assignment.Deadline.Equal(f.Now().Add(30 * time.Second)) {
				t.Errorf("deadline %v", c.Order.Assignment.Deadline)
			}
		}
		later := request("later", "lb-1")
		at = at.Add(time.Hour)
		later.NotBefore = &at
		task = f.create(t, later)
		_, err := f.CancelTask(t.Context(), "ping", "later", "me")
		must(t, err)
		f.want(t, task.ID, tasker.TaskCancelled, "lb-1", "cancelled")
	})
}

func TestARetryKeepsTheTimeBeforeWhichNothingBegins(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		at := f.Now().Add(time.Hour)
		for _, n := range []store.NewTask{request("named", "lb-1"), request("all"), request("waves", "lb-1")} {
			n.NotBefore = &at
			if n.Identifier == "waves" {
				n.Rollout = &tasker.RolloutSpec{}
			}
			f.create(t, n)
			_, err := f.CancelTask(t.Context(), "ping", n.Identifier, "me")
			must(t, err)
			task, err := f.RetryTask(t.Context(), "ping", n.Identifier, "me")
			must(t, err)
			if n.Rollout != nil && task.Rollout.State != tasker.RolloutScheduled {
				t.Errorf("the rollout is %s, want scheduled", task.Rollout.State)
			}
		}
		f.claim(t, 0)
		f.Add(59 * time.Minute)
		f.expire(t, 0)
		f.Add(time.Minute)
		for _, c := range f.claim(t, 2) {
			if !c.Order.Assignment.Deadline.Equal(f.Now().Add(30 * time.Second)) {
				t.Errorf("deadline %v", c.Order.Assignment.Deadline)
			}
		}
	})
}

func TestDryRunOfWavesIsSentAtOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("x", "lb-1", "lb-2")
		n.Rollout, n.Action = &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}}}, tasker.DryRun
		task := f.create(t, n)
		for _, c := range f.send(t, 2) {
			if c.Order.Assignment.Action != tasker.DryRun || c.Order.Version != tasker.ActionVersion {
				t.Errorf("sent: %+v", c.Order)
			}
		}
		responses := f.want(t, task.ID, tasker.TaskSent, "lb-1", "sent", "lb-2", "sent")
		if task.Rollout.State != tasker.RolloutPlanned || responses["lb-2"].Wave != 2 {
			t.Errorf("%+v, %+v", task.Rollout, responses["lb-2"])
		}
		if due, err := f.DueRollouts(t.Context(), 10); err != nil || len(due) != 0 {
			t.Errorf("due are %v, %v", due, err)
		}
	})
}

func TestLease(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := store.Lease{Name: "l", Holder: "a"}, store.Lease{Name: "l", Holder: "b"}
		take := func(l store.Lease, want error) {
			t.Helper()
			if err := f.AcquireLease(t.Context(), l, 5*time.Second); !errors.Is(err, want) {
				t.Errorf("%s takes it: %v, want %v", l.Holder, err, want)
			}
		}
		take(a, nil)
		take(b, store.ErrLease)
		f.Add(4 * time.Second)
		take(a, nil)
		f.Add(4 * time.Second)
		take(b, store.ErrLease)
		f.Add(time.Second)
		take(b, nil)
		must(t, f.ReleaseLease(t.Context(), a)) // it has none
		take(a, store.ErrLease)
		must(t, f.ReleaseLease(t.Context(), b))
		take(a, nil)
		task := f.inWaves(t, "x", false, "lb-1")
		for holder, advance := range map[string]func(){"another": func() {}, "lapsed": func() { f.Add(5 * time.Second) }} {
			advance()
			l := a
			if holder == "another" {
				l = b
			}
			_, err := f.AdvanceRollout(t.Context(), l, task.ID, func(store.RolloutView) store.RolloutStep {
				t.Errorf("%s is asked", holder)
				return store.RolloutStep{}
			})
			if !errors.Is(err, store.ErrLease) {
				t.Errorf("%s: %v, want ErrLease", holder, err)
			}
		}
	})
}
