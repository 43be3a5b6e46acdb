package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Rollouts stores the progress of rollouts.
type Rollouts struct{ db *database }

// maxFailed bounds decision.Input.Failed.
const maxFailed = 5

// DueRollouts returns the ids of up to limit rollouts that are due for a decision,
// oldest first.
func (r *Rollouts) DueRollouts(ctx context.Context, limit int) ([]string, error) {
	const action = "read due rollouts"
	now, err := r.db.Now(ctx)
	if err != nil {
		return nil, r.db.Wrap(action, err)
	}
	ids, err := r.db.Reader().QueryStrings(ctx, "SELECT task_id FROM rollouts WHERE check_at <= ? ORDER BY check_at LIMIT ?", now, limit)
	return ids, r.db.Wrap(action, err)
}

// Gating is a rollout whose gate decides about the next wave.
type Gating struct {
	Gate tasker.Gate
	// Endpoints are the endpoints of the waves so far.
	Endpoints []string
	// Version is the task's version. If it changes while the gate is evaluated, the
	// rollout has changed too: it may have been paused and resumed.
	Version int64
}

// GatingRollout reads the gate of a task's rollout; nil if the rollout has none or is in
// another state now.
func (r *Rollouts) GatingRollout(ctx context.Context, id string) (*Gating, error) {
	var gating *Gating
	err := r.db.View(ctx, "read a rollout", func(c *sqldb.Conn) error {
		rollouts, err := rolloutColumns.Select(ctx, c, "FROM rollouts WHERE task_id = ? AND state = ?", id, string(tasker.RolloutGating))
		if err != nil || len(rollouts) == 0 || rollouts[0].Gate == nil {
			return err
		}
		rollout := rollouts[0]
		gating = &Gating{Gate: *rollout.Gate}
		if err := c.QueryRow(ctx, "SELECT version FROM tasks WHERE id = ?", []any{id}, &gating.Version); err != nil {
			return err
		}
		gating.Endpoints, err = c.QueryStrings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND wave <= ? ORDER BY endpoint", id, rollout.Wave)
		return err
	})
	return gating, err
}

// maxSteps bounds the steps of one transaction; a rollout needs only a few.
const maxSteps = 10

// AdvanceRollout moves a rollout forward in one transaction, on behalf of the holder of
// the lease: decide is called until its step neither changes the state nor has an
// action. AdvanceRollout returns the tasks that finished.
func (r *Rollouts) AdvanceRollout(ctx context.Context, l Lease, id string, decide func(decision.Input) (decision.Step, error)) ([]tasker.Task, error) {
	return updateReturning(ctx, r.db, "advance a rollout", func(tx *tx) ([]tasker.Task, error) {
		if err := lockLease(ctx, tx, l); err != nil {
			if errors.Is(err, ErrNotFound) {
				err = errLeaseExpired
			}
			return nil, err
		}
		var finished []tasker.Task
		for range maxSteps {
			ended, more, err := advanceOnce(ctx, tx, id, decide)
			finished = append(finished, ended...)
			if err != nil || !more {
				return finished, err
			}
		}
		return nil, fmt.Errorf("the rollout of task %s needs more than %d steps", id, maxSteps)
	})
}

// advanceOnce makes one step. more reports whether there may be another one.
func advanceOnce(ctx context.Context, t *tx, id string, decide func(decision.Input) (decision.Step, error)) (finished []tasker.Task, more bool, err error) {
	cs, err := lockTasks(ctx, t, []string{id})
	if err != nil {
		return nil, false, err
	}
	task := cs.tasks[id]
	if task == nil || task.pacing != rolloutActive {
		return nil, false, nil
	}
	r, err := lockRollout(ctx, cs, id)
	if err != nil {
		return nil, false, err
	}
	in, err := rolloutInput(ctx, cs, task, r)
	if err != nil {
		return nil, false, err
	}
	step, err := decide(in)
	if err != nil {
		return nil, false, err
	}
	more = step.IsMove(r.Rollout)
	if err := applyStep(ctx, cs, task, r, step); err != nil {
		return nil, false, err
	}
	finished, err = cs.write(ctx)
	return finished, more && task.pacing == rolloutActive, err
}

// rolloutInput reads what the decision on a rollout depends on.
func rolloutInput(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) (in decision.Input, err error) {
	in = decision.Input{Task: t.Task, Now: cs.Now.Time()}
	in.Task.Rollout = &r.Rollout
	if r.State == tasker.RolloutWaiting {
		if in.Blocker, err = findBlocker(ctx, &cs.Conn, r); err != nil {
			return in, err
		}
	}
	if t.Counts.Failures() > 0 {
		query := "SELECT endpoint FROM responses WHERE task_id = ? AND " + statusIn(isFailure) + " ORDER BY endpoint LIMIT ?"
		if in.Failed, err = cs.QueryStrings(ctx, query, t.ID, maxFailed); err != nil {
			return in, fmt.Errorf("read the failed endpoints: %w", err)
		}
	}
	return in, nil
}
