package rollout

import (
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestReasonNamesWhoFailed(t *testing.T) {
	t.Parallel()
	view := store.RolloutView{Failed: []string{"lb-1", "lb-4"}}
	view.Task.Rollout = &tasker.Rollout{State: tasker.RolloutRunning}
	for failed, want := range map[int]string{
		2: "2 of 10 failed (lb-1, lb-4); at most 0 may",
		7: "7 of 10 failed (lb-1, lb-4 and 5 more); at most 0 may",
	} {
		view.Task.Counts = tasker.Counts{tasker.Failed: failed, tasker.Pending: 10 - failed}
		if step := next(view, nil); step.Reason != want || step.State != tasker.RolloutStopped {
			t.Errorf("with %d failures it is %s: %q, want %q", failed, step.State, step.Reason, want)
		}
	}
}

// A cancel wins over a rollback that has not begun, and says so.
func TestCancelledBeforeItsRollback(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for state, want := range map[tasker.RolloutState]string{
		tasker.RolloutRunning:     "cancelled by admin",
		tasker.RolloutRollingBack: "cancelled by admin before it was rolled back; what was changed stays: undo undoes it",
	} {
		var view store.RolloutView
		view.Task.Counts = tasker.Counts{tasker.Failed: 1, tasker.Cancelled: 1, tasker.Skipped: 1}
		view.Task.CancelRequestedAt, view.Task.CancelRequestedBy = &now, "admin"
		view.Task.Rollout = &tasker.Rollout{State: state, RolloutSpec: tasker.RolloutSpec{OnFailure: tasker.OnFailureRollback}}
		if step := next(view, nil); step.State != tasker.RolloutCancelled || step.Reason != want || step.Rollback {
			t.Errorf("cancelled while %s: %+v, want %q", state, step, want)
		}
	}
}

// One that was given up may report after all when its wave had ended: so it had not.
func TestWaveLastsAfterAll(t *testing.T) {
	t.Parallel()
	for _, state := range []tasker.RolloutState{tasker.RolloutSoaking, tasker.RolloutGating} {
		for late, want := range map[tasker.ResponseStatus]tasker.RolloutState{
			tasker.Received: tasker.RolloutRunning, tasker.Running: tasker.RolloutRunning, tasker.Interrupted: tasker.RolloutGating,
		} {
			var view store.RolloutView
			view.Task.Counts = tasker.Counts{late: 1, tasker.Pending: 1}
			view.Task.Rollout = &tasker.Rollout{State: state, Wave: 1, Waves: []int{1, 1}, RolloutSpec: tasker.RolloutSpec{
				MaxFailures: tasker.Amount{N: 1}, Gate: &tasker.Gate{URL: "http://127.0.0.1/"},
			}}
			if step := next(view, nil); step.State != want || step.Release {
				t.Errorf("%s, and one is %s: %+v, want %s", state, late, step, want)
			}
		}
	}
}
