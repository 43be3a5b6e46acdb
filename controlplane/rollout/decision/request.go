package decision

import (
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// pause decides on a request to begin no wave until a resume. A paused rollout stays as
// it is.
func pause(in Input) (Step, error) {
	step := stay(in)
	if err := refuseChange(in); err != nil || step.State == tasker.RolloutPaused {
		return step, err
	}
	step.State, step.Resume, step.Reason = tasker.RolloutPaused, step.State, "paused by "+in.By
	return step, nil
}

// resume decides on a request to continue where the rollout was paused.
func resume(in Input) (Step, error) {
	r := in.Task.Rollout
	if err := refuseChange(in); err != nil {
		return stay(in), err
	}
	if r.State != tasker.RolloutPaused {
		return stay(in), ErrNotPaused
	}
	step := Step{State: r.Resume, Until: r.Until, Accept: r.OnFailure == tasker.OnFailurePause}
	if step.State == tasker.RolloutGating {
		step.Until = nil // the gate must hold for the whole time again
	}
	return step, nil
}

// refuseChange returns an error if no further wave will begin.
func refuseChange(in Input) error {
	switch r := in.Task.Rollout; {
	case r.State.Ended():
		return ErrEnded
	case in.Task.CancelRequestedAt != nil:
		return fmt.Errorf("%w: it was cancelled", ErrEnded)
	case r.State == tasker.RolloutRollingBack:
		return fmt.Errorf("%w: it is being rolled back", ErrEnded)
	}
	return nil
}

// retry decides on a new attempt, whose last one has ended. The waves of a dry run stay a
// preview.
func retry(in Input) (Step, error) {
	switch {
	case in.Task.Rollout.State == tasker.RolloutRollingBack:
		return stay(in), ErrUndoing
	case in.Task.Rollout.State == tasker.RolloutPlanned:
		return stay(in), nil
	case isBefore(in, in.Task.NotBefore):
		return Step{State: tasker.RolloutScheduled, Restart: true}, nil
	}
	return Step{State: tasker.RolloutWaiting, Restart: true}, nil
}
