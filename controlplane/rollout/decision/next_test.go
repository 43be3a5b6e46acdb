package decision

import (
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// next decides without a request.
func next(t *testing.T, in Input) Step {
	t.Helper()
	step, err := Next(in)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

func TestReasonListsFailedEndpoints(t *testing.T) {
	t.Parallel()
	in := Input{Failed: []string{"lb-1", "lb-4"}}
	in.Task.Rollout = &tasker.Rollout{State: tasker.RolloutRunning}
	for failed, want := range map[int]string{
		2: "2 of 10 failed (lb-1, lb-4); at most 0 may",
		7: "7 of 10 failed (lb-1, lb-4 and 5 more); at most 0 may",
	} {
		in.Task.Counts = tasker.Counts{tasker.Failed: failed, tasker.Pending: 10 - failed}
		if step := next(t, in); step.Reason != want || step.State != tasker.RolloutStopped {
			t.Errorf("after %d failures the step is %s: %q, want %q", failed, step.State, step.Reason, want)
		}
	}
}

// A cancel before the undo task was created prevents the rollback, and the reason says so.
func TestCancelBeforeRollback(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for state, want := range map[tasker.RolloutState]string{
		tasker.RolloutRunning:     "cancelled by admin",
		tasker.RolloutRollingBack: "cancelled by admin before it was rolled back; what was changed stays: undo undoes it",
	} {
		var in Input
		in.Task.Counts = tasker.Counts{tasker.Failed: 1, tasker.Cancelled: 1, tasker.Skipped: 1}
		in.Task.CancelRequestedAt, in.Task.CancelRequestedBy = &now, "admin"
		in.Task.Rollout = &tasker.Rollout{State: state, RolloutSpec: tasker.RolloutSpec{OnFailure: tasker.OnFailureRollback}}
		if step := next(t, in); step.State != tasker.RolloutCancelled || step.Reason != want || step.Rollback {
			t.Errorf("cancelled in %s: %+v, want %q", state, step, want)
		}
	}
}

// A late report on a response that had been ended as lost continues the wave.
func TestLateReportContinuesWave(t *testing.T) {
	t.Parallel()
	for _, state := range []tasker.RolloutState{tasker.RolloutSoaking, tasker.RolloutGating} {
		for late, want := range map[tasker.ResponseStatus]tasker.RolloutState{
			tasker.Received: tasker.RolloutRunning, tasker.Running: tasker.RolloutRunning, tasker.Interrupted: tasker.RolloutGating,
		} {
			var in Input
			in.Task.Counts = tasker.Counts{late: 1, tasker.Pending: 1}
			in.Task.Rollout = &tasker.Rollout{State: state, Wave: 1, Waves: []int{1, 1}, RolloutSpec: tasker.RolloutSpec{
				MaxFailures: tasker.Amount{N: 1}, Gate: &tasker.Gate{URL: "http://127.0.0.1/"},
			}}
			if step := next(t, in); step.State != want || step.Release {
				t.Errorf("%s with a response that is %s: %+v, want %s", state, late, step, want)
			}
		}
	}
}
