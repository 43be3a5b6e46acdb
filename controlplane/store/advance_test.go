package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// A new reason or time is a new version of the task; a repeated one is not.
func TestAdvanceChangesVersion(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("x", "lb-1", "lb-2")
		n.Rollout = &tasker.RolloutSpec{}
		n.Rollout.SetDefaults()
		task := f.create(t, n)
		lease := store.Lease{Name: "rollouts", Holder: "me"}
		must(t, f.AcquireLease(t.Context(), lease, time.Minute))
		until := f.Now().Add(time.Hour)
		version := task.Version
		for _, step := range []struct {
			reason  string
			until   *time.Time
			changes int64
		}{{"", nil, 0}, {"", &until, 1}, {"", &until, 0}, {"waits", &until, 1}, {"waits", nil, 1}} {
			_, err := f.AdvanceRollout(t.Context(), lease, task.ID, func(decision.Input) (decision.Step, error) {
				return decision.Step{State: tasker.RolloutScheduled, Reason: step.reason, Until: step.until, Again: &until}, nil
			})
			must(t, err)
			version += step.changes
			got, _ := f.task(t, task.ID)
			if r := got.Rollout; got.Version != version || r.Reason != step.reason || (r.Until == nil) != (step.until == nil) {
				t.Errorf("after %+v the version is %d, want %d: %+v", step, got.Version, version, r)
			}
			if due, err := f.DueRollouts(t.Context(), 1); err != nil || len(due) > 0 {
				t.Errorf("after %+v the due rollouts are %v (%v), want none", step, due, err)
			}
		}
	})
}

// A rollout that is rolled back excludes others until the undo has ended.
func TestRollbackKeepsExclusion(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		lease := store.Lease{Name: "rollouts", Holder: "me"}
		must(t, f.AcquireLease(t.Context(), lease, time.Minute))
		rollout := func(identifier string) tasker.Task {
			n := request(identifier, "lb-1")
			n.Rollout = &tasker.RolloutSpec{Exclusive: true}
			n.Rollout.SetDefaults()
			return f.create(t, n)
		}
		// advance makes the steps and returns the blocker of the last one.
		advance := func(id string, steps ...decision.Step) (blocker string) {
			_, err := f.AdvanceRollout(t.Context(), lease, id, func(in decision.Input) (decision.Step, error) {
				blocker = in.Blocker
				if len(steps) == 0 {
					return decision.Step{State: in.Task.Rollout.State}, nil
				}
				step := steps[0]
				steps = steps[1:]
				return step, nil
			})
			must(t, err)
			return blocker
		}
		first, second := rollout("first"), rollout("second")
		waiting := decision.Step{State: tasker.RolloutWaiting}
		advance(first.ID, decision.Step{State: tasker.RolloutRunning, Release: true})
		f.send(t, 1)
		failed := update("lb-1", first.ID, 1, 1, tasker.Failed)
		now := f.Now()
		failed.Update.StartedAt = &now
		f.apply(t, failed)
		advance(first.ID, decision.Step{State: tasker.RolloutStopped, Reason: "x", Rollback: true})
		if got := advance(second.ID, waiting); !strings.Contains(got, "until the undo of ping first has finished") || !strings.Contains(got, "lb-1") {
			t.Errorf("during the undo of the first rollout the blocker of the second is %q", got)
		}
		stopped, _ := f.task(t, first.ID)
		f.send(t, 1)
		f.undoneBy(t, first.ID, stopped.Rollout.Rollback)
		f.apply(t, update("lb-1", stopped.Rollout.Rollback, 1, 1, tasker.Succeeded))
		if got := advance(second.ID); got != "" {
			t.Errorf("after the undo of the first rollout the blocker of the second is %q", got)
		}
	})
}

// The input of a decision has up to five endpoints that count as failed.
func TestInputListsFailedEndpoints(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		names := []string{"lb-1", "lb-2", "lb-3", "lb-4", "lb-5", "lb-6", "lb-7", "lb-8", "lb-9"}
		n := request("x", names...)
		n.Rollout = &tasker.RolloutSpec{}
		n.Rollout.SetDefaults()
		task := f.create(t, n)
		lease := store.Lease{Name: "rollouts", Holder: "me"}
		must(t, f.AcquireLease(t.Context(), lease, 24*time.Hour))
		failed := func() (names []string) {
			_, err := f.AdvanceRollout(t.Context(), lease, task.ID, func(in decision.Input) (decision.Step, error) {
				names = in.Failed
				return decision.Step{State: tasker.RolloutRunning, Release: in.Task.Rollout.Wave == 0}, nil
			})
			must(t, err)
			return names
		}
		if got := failed(); len(got) != 0 {
			t.Errorf("the failed endpoints are %v before anything was sent", got)
		}
		f.send(t, len(names))
		ends := []tasker.ResponseStatus{tasker.Succeeded, tasker.Failed, tasker.Running, tasker.TimedOut, tasker.Rejected, tasker.Interrupted}
		for i, status := range ends {
			f.apply(t, update(names[i], task.ID, 1, 1, status))
		}
		if got := failed(); strings.Join(got, " ") != "lb-2 lb-4 lb-5 lb-6" {
			t.Errorf("the failed endpoints are %v", got)
		}
		f.Add(time.Hour)
		f.expire(t, 3)
		if got := failed(); strings.Join(got, " ") != "lb-2 lb-4 lb-5 lb-6 lb-7" {
			t.Errorf("the failed endpoints are %v, want the first five", got)
		}
	})
}
