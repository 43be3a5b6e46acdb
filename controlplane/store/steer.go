package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// PauseTask has a rollout begin no further wave until it is resumed. On a paused
// one it changes nothing.
func (s *Store) PauseTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return s.steer(ctx, "pause a rollout", taskType, ref, func(u *unit, t *taskRow, r *rolloutRow) error {
		if r.State == tasker.RolloutPaused {
			return nil
		}
		r.Resume, r.State, r.Reason = r.State, tasker.RolloutPaused, "paused by "+by
		return u.noted(ctx, t, "pause", by)
	})
}

// ResumeTask has a paused rollout go on where it was; what has failed until now
// is accepted.
func (s *Store) ResumeTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return s.steer(ctx, "resume a rollout", taskType, ref, func(u *unit, t *taskRow, r *rolloutRow) error {
		if r.State != tasker.RolloutPaused {
			return ErrNotPaused
		}
		r.State, r.Resume, r.Reason, r.checkAt = r.Resume, "", "", u.now
		if r.State == tasker.RolloutGating {
			r.Until = nil // it has to hold anew
		}
		if r.OnFailure == tasker.OnFailurePause {
			r.Accepted = t.Counts.Failures()
		}
		u.commit.Rollouts = true
		return u.noted(ctx, t, "resume", by)
	})
}

// steer changes a rollout that is not over.
func (s *Store) steer(ctx context.Context, doing, taskType, ref string, fn func(*unit, *taskRow, *rolloutRow) error) (tasker.Task, error) {
	return s.change(ctx, doing, taskType, ref, func(u *unit, t *taskRow) error {
		r, err := u.rollout(ctx, t.ID)
		switch {
		case err != nil:
			return err
		case t.pacing != pacedNow, r.State.Over():
			return ErrOver
		case t.CancelRequestedAt != nil:
			return fmt.Errorf("%w: it was cancelled", ErrOver)
		case r.State == tasker.RolloutRollingBack:
			return fmt.Errorf("%w: it is being rolled back", ErrOver)
		}
		if err := fn(u, t, r); err != nil {
			return err
		}
		r.settle(t)
		return u.writeRollout(ctx, r)
	})
}

// noted writes down who asked what of a task, which has thereby changed.
func (u *unit) noted(ctx context.Context, t *taskRow, action, by string) error {
	t.changed = true
	err := u.exec(ctx, "INSERT INTO controls (task_id, version, action, at, by_whom) VALUES (?, ?, ?, ?, ?)",
		t.ID, t.Version+1, action, u.now, by)
	if err != nil {
		return fmt.Errorf("write who asked: %w", err)
	}
	return nil
}

// Controls is what people asked of a task, in its order.
func (s *Store) Controls(ctx context.Context, id string) ([]tasker.Control, error) {
	list := []tasker.Control{}
	err := s.direct().rows(ctx, "SELECT action, at, by_whom FROM controls WHERE task_id = ? ORDER BY version", []any{id}, func(r *sql.Rows) error {
		var c tasker.Control
		var at micros
		err := r.Scan(&c.Action, &at, &c.By)
		c.At = at.time()
		list = append(list, c)
		return err
	})
	return list, s.fail("read what was asked of a task", err)
}
