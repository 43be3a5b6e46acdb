package store

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// PauseTask keeps a rollout from beginning waves until it is resumed. A paused one
// stays as it is.
func (c *TaskController) PauseTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.changeRollout(ctx, "pause a rollout", taskType, ref, func(cs *changeSet, t *taskRow, r *rolloutRow) error {
		if r.State == tasker.RolloutPaused {
			return nil
		}
		r.Resume, r.State, r.Reason = r.State, tasker.RolloutPaused, "paused by "+by
		return recordControl(ctx, cs, t, "pause", by)
	})
}

// ResumeTask continues a paused rollout where it was; the failures until now are
// accepted.
func (c *TaskController) ResumeTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.changeRollout(ctx, "resume a rollout", taskType, ref, func(cs *changeSet, t *taskRow, r *rolloutRow) error {
		if r.State != tasker.RolloutPaused {
			return ErrNotPaused
		}
		r.State, r.Resume, r.Reason, r.checkAt = r.Resume, "", "", cs.Now
		if r.State == tasker.RolloutGating {
			r.Until = nil // the gate must hold for the whole time again
		}
		if r.OnFailure == tasker.OnFailurePause {
			r.Accepted = t.Counts.Failures()
		}
		cs.commit.Rollouts = true
		return recordControl(ctx, cs, t, "resume", by)
	})
}

// changeRollout changes a rollout that is not over.
func (c *TaskController) changeRollout(ctx context.Context, action, taskType, ref string, fn func(*changeSet, *taskRow, *rolloutRow) error) (tasker.Task, error) {
	return c.change(ctx, action, taskType, ref, func(cs *changeSet, t *taskRow) error {
		r, err := lockRollout(ctx, cs, t.ID)
		switch {
		case err != nil:
			return err
		case t.pacing != rolloutActive, r.State.Ended():
			return ErrRolloutEnded
		case t.CancelRequestedAt != nil:
			return fmt.Errorf("%w: it was cancelled", ErrRolloutEnded)
		case r.State == tasker.RolloutRollingBack:
			return fmt.Errorf("%w: it is being rolled back", ErrRolloutEnded)
		}
		if err := fn(cs, t, r); err != nil {
			return err
		}
		r.derive(t)
		return writeRollout(ctx, &cs.Conn, r)
	})
}
