package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func leader() store.Lease { return store.Lease{Name: "rollouts", Holder: "test"} }

// inWaves creates a task with a rollout: a wave of one endpoint, then waves of two.
func (f *fixture) inWaves(t testing.TB, identifier string, exclusive bool, endpoints ...string) tasker.Task {
	t.Helper()
	n := request(identifier, endpoints...)
	n.Rollout = &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}, {N: 2}}, Order: tasker.OrderListed, Exclusive: exclusive}
	return f.create(t, n)
}

// step makes one decision and returns the input of it.
func (f *fixture) step(t testing.TB, id string, step decision.Step) decision.Input {
	t.Helper()
	must(t, f.AcquireLease(t.Context(), leader(), time.Minute))
	var read decision.Input
	first := true
	_, err := f.AdvanceRollout(t.Context(), leader(), id, func(in decision.Input) (decision.Step, error) {
		if !first {
			r := in.Task.Rollout
			return decision.Step{State: r.State, Resume: r.Resume, Reason: r.Reason, Until: r.Until}, nil
		}
		first, read = false, in
		return step, nil
	})
	must(t, err)
	return read
}

// releaseWave is the step that begins the next wave.
func releaseWave() decision.Step {
	return decision.Step{State: tasker.RolloutRunning, Release: true}
}

func TestWavesAreSentOneAfterAnother(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-2", "lb-1", "lb-3")
		if c := f.newCommits(); !c[0].Rollouts {
			t.Errorf("commits %+v, want Rollouts", c)
		}
		f.claim(t, 0)
		f.apply(t, hello("lb-1", "s"), hello("lb-2", "s"))
		f.claim(t, 0)
		f.Add(time.Hour)
		f.expire(t, 0) // the receive timeout begins with the wave
		f.step(t, task.ID, releaseWave())
		claims := f.send(t, 1)
		if c := claims[0]; c.Endpoint != "lb-2" || !c.Order.Assignment.Deadline.Equal(f.Now().Add(30*time.Second)) {
			t.Errorf("sent to %s with the deadline %v; want to lb-2, 30 s from now", c.Endpoint, c.Order.Assignment.Deadline)
		}
		f.apply(t, update("lb-2", task.ID, 1, 1, tasker.Succeeded))
		f.claim(t, 0)
		f.step(t, task.ID, releaseWave())
		f.send(t, 2)
		f.Add(time.Minute)
		f.expire(t, 2)
		f.want(t, task.ID, tasker.TaskIncomplete, "lb-1", "missing", "lb-2", "succeeded", "lb-3", "missing")
	})
}

// A stopped rollout cannot be paused, though an endpoint is still running.
func TestPauseOfStoppedRollout(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.inWaves(t, "x", false, "lb-1", "lb-2")
		f.step(t, task.ID, releaseWave())
		f.send(t, 1)
		f.step(t, task.ID, decision.Step{State: tasker.RolloutStopped, Reason: "1 failed", Skip: true})
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
		f.step(t, task.ID, releaseWave())
		if _, err := f.ResumeTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrNotPaused) {
			t.Errorf("%v, want ErrNotPaused", err)
		}
		paused, err := f.PauseTask(t.Context(), "ping", "x", "me")
		if stats, err := f.Stats(t.Context()); err != nil || stats.Rollouts[tasker.RolloutPaused] != 1 || stats.Rollouts[tasker.RolloutRunning] != 0 {
			t.Errorf("counts %v, %v", stats.Rollouts, err)
		}
		if err != nil || paused.Status != tasker.TaskPaused || paused.Rollout.State != tasker.RolloutPaused || paused.Rollout.Reason != "paused by me" {
			t.Errorf("paused: %s, %+v, %v", paused.Status, paused.Rollout, err)
		}
		f.newCommits()
		resumed, err := f.ResumeTask(t.Context(), "ping", "x", "you")
		if err != nil || resumed.Status == tasker.TaskPaused || resumed.Rollout.State != tasker.RolloutRunning {
			t.Errorf("resumed: %s, %+v, %v", resumed.Status, resumed.Rollout, err)
		}
		if c := f.newCommits(); len(c) != 1 || !c[0].Rollouts {
			t.Errorf("commits %+v, want Rollouts", c)
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

// A rollout waits for an exclusive rollout on the same endpoints.
func TestBlockers(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		waiting := decision.Step{State: tasker.RolloutWaiting}
		blocker := func(id string) string { return f.step(t, id, waiting).Blocker }
		first := f.inWaves(t, "first", true, "lb-1", "lb-2")
		second := f.inWaves(t, "second", false, "lb-2", "lb-3")
		third := f.inWaves(t, "third", false, "lb-3")
		for _, task := range []tasker.Task{first, second, third} {
			f.step(t, task.ID, waiting)
		}
		if got := blocker(first.ID); got != "" {
			t.Errorf("the first rollout waits: %q", got)
		}
		f.step(t, first.ID, releaseWave())
		if got := blocker(second.ID); !strings.Contains(got, "ping first") || !strings.Contains(got, "lb-2") {
			t.Errorf("the second rollout waits: %q", got)
		}
		if got := blocker(third.ID); got != "" {
			t.Errorf("the third rollout waits: %q; it shares endpoints with the second only, and neither is exclusive", got)
		}
		f.send(t, 1)
		f.apply(t, update("lb-1", first.ID, 1, 1, tasker.Failed))
		f.step(t, first.ID, decision.Step{State: tasker.RolloutStopped, Reason: "x", Skip: true})
		if got := blocker(second.ID); got != "" {
			t.Errorf("the second rollout waits after the end of the first: %q", got)
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
			t.Errorf("orders after the hello %+v; want only a welcome", a.Orders)
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

func TestDryRunOfRolloutIsSentAtOnce(t *testing.T) {
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
