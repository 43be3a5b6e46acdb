package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestSkipAndRetry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2", "lb-3")
		f.step(t, task.ID, releaseWave())
		f.send(t, 1)
		u := update("lb-1", task.ID, 1, 1, tasker.Failed)
		f.apply(t, u)
		f.step(t, task.ID, decision.Step{State: tasker.RolloutStopped, Reason: "1 failed", Skip: true})
		responses := f.want(t, task.ID, tasker.TaskFailed, "lb-1", "failed", "lb-2", "skipped", "lb-3", "skipped")
		if r := responses["lb-3"]; r.Reason != "1 failed" || r.Wave != 2 {
			t.Errorf("skipped: %+v", r)
		}
		if due, err := f.DueRollouts(t.Context(), 10); err != nil || len(due) != 0 {
			t.Errorf("due are %v, %v; the rollout has ended", due, err)
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
		f.step(t, task.ID, releaseWave())
		if c := f.send(t, 1); c[0].Endpoint != "lb-1" || c[0].Attempt != 2 {
			t.Errorf("sent: %+v", c[0])
		}
		controls, err := f.Controls(t.Context(), task.ID)
		if err != nil || len(controls) != 1 || controls[0].Action != "retry" || controls[0].By != "me" || !controls[0].At.Equal(f.Now()) {
			t.Errorf("controls %+v, %v", controls, err)
		}
	})
}

// Succeeded endpoints are in no wave of a retry. If the task was undone, the retry has
// all endpoints, once the undo has ended.
func TestRetryOfRollout(t *testing.T) {
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
		f.step(t, task.ID, releaseWave())
		f.send(t, 1)
		report(task.ID, "lb-1", 1, tasker.Failed)
		f.step(t, task.ID, releaseWave())
		f.send(t, 2)
		report(task.ID, "lb-2", 1, tasker.Failed)
		report(task.ID, "lb-3", 1, tasker.Succeeded)
		before := f.want(t, task.ID, tasker.TaskFailed, "lb-1", "failed", "lb-2", "failed", "lb-3", "succeeded")
		after := retry(1, 1)
		if r := after["lb-3"]; r.Wave != 0 || r.Version <= before["lb-3"].Version || after["lb-1"].Wave != 1 || after["lb-2"].Wave != 2 {
			t.Errorf("retried: %+v", after)
		}
		f.step(t, task.ID, releaseWave())
		f.send(t, 1)
		report(task.ID, "lb-1", 2, tasker.Succeeded)
		f.step(t, task.ID, releaseWave())
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
		f.undoneBy(t, task.ID, "") // the new attempt is not undone
		f.want(t, task.ID, tasker.TaskPending, "lb-1", "pending", "lb-2", "pending", "lb-3", "pending")
		f.step(t, task.ID, releaseWave())
		if c := f.send(t, 1); c[0].Order.Assignment.Attempt != 3 {
			t.Errorf("sent: %+v", c[0])
		}
	})
}

// A rollout cannot be retried or paused until its rollback has ended.
func TestRetryDuringRollback(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1")
		f.step(t, task.ID, releaseWave())
		f.send(t, 1)
		f.step(t, task.ID, decision.Step{State: tasker.RolloutRollingBack, Reason: "x", Skip: true})
		if _, err := f.PauseTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrRolloutEnded) || !strings.Contains(err.Error(), "rolled back") {
			t.Errorf("%v, want ErrRolloutEnded, because it is being rolled back", err)
		}
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Failed))
		if _, err := f.RetryTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrUndoing) {
			t.Errorf("%v, want ErrUndoing", err)
		}
	})
}

func TestRetryKeepsNotBefore(t *testing.T) {
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
