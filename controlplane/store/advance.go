package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Rollouts stores the progress of rollouts.
type Rollouts struct{ db *database }

// RolloutView is a rollout with its surroundings, on which a decision is based.
type RolloutView struct {
	Task tasker.Task // with its rollout, without payload and endpoints
	// Blocker describes the rollout that this one waits for before it begins; empty is
	// none.
	Blocker string
	// Failed names some of the endpoints that count as failed, sorted; there are
	// Task.Counts.Failures() of them.
	Failed []string
	Now    time.Time
}

// maxFailed bounds RolloutView.Failed.
const maxFailed = 5

// RolloutStep is a decision: the rollout's new state and an action. At most one of
// Release, Skip and Rollback is set.
type RolloutStep struct {
	State  tasker.RolloutState
	Resume tasker.RolloutState
	Reason string
	Until  *time.Time
	// Release begins the next wave.
	Release bool
	// Skip ends the responses of waves that have not begun as skipped, with Reason.
	Skip bool
	// Rollback creates the task that undoes this one.
	Rollback bool
	// Again is when to decide again if no response changes until then; nil is never.
	Again *time.Time
}

// hasAction reports whether the step does more than set the state.
func (s RolloutStep) hasAction() bool { return s.Release || s.Skip || s.Rollback }

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
func (r *Rollouts) AdvanceRollout(ctx context.Context, l Lease, id string, decide func(RolloutView) RolloutStep) ([]tasker.Task, error) {
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
func advanceOnce(ctx context.Context, t *tx, id string, decide func(RolloutView) RolloutStep) (finished []tasker.Task, more bool, err error) {
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
	view, err := viewRollout(ctx, cs, task, r)
	if err != nil {
		return nil, false, err
	}
	step := decide(view)
	more = step.State != r.State || step.hasAction()
	if err := applyStep(ctx, cs, task, r, step); err != nil {
		return nil, false, err
	}
	if finished, err = cs.write(ctx); err != nil {
		return nil, false, err
	}
	if more = more && task.pacing == rolloutActive; more {
		r.checkAt = t.Now
	}
	return finished, more, writeRollout(ctx, &t.Conn, r)
}

func viewRollout(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) (RolloutView, error) {
	view := RolloutView{Task: t.Task, Now: cs.Now.Time()}
	view.Task.Rollout = &r.Rollout
	var err error
	if r.State == tasker.RolloutWaiting {
		if view.Blocker, err = findBlocker(ctx, &cs.Conn, r); err != nil {
			return view, err
		}
	}
	if t.Counts.Failures() > 0 {
		query := "SELECT endpoint FROM responses WHERE task_id = ? AND " + statusIn(isFailure) + " ORDER BY endpoint LIMIT ?"
		if view.Failed, err = cs.QueryStrings(ctx, query, t.ID, maxFailed); err != nil {
			return view, fmt.Errorf("read the failed endpoints: %w", err)
		}
	}
	return view, nil
}

// applyStep changes the rows of a task and its rollout by a decision.
func applyStep(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow, step RolloutStep) error {
	if step.hasAction() || step.State != r.State || step.Reason != r.Reason || sqldb.MicrosOrNull(step.Until) != sqldb.MicrosOrNull(r.Until) {
		t.change()
	}
	r.State, r.Resume, r.Reason, r.Until, r.checkAt = step.State, step.Resume, step.Reason, step.Until, sqldb.MicrosOrNull(step.Again)
	var err error
	switch {
	case step.Release:
		err = releaseWave(ctx, cs, t, r)
	case step.Skip:
		err = skipWaves(ctx, cs, t, r)
	case step.Rollback:
		if r.Rollback, _, err = createUndo(ctx, cs.tx, t); errors.Is(err, ErrNothingToUndo) {
			err = nil
		}
	}
	r.derive(t)
	t.dirty = true
	return err
}

// releaseWave begins the next wave, whose receive deadline runs from now.
func releaseWave(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
	r.Wave++
	t.ReceiveDeadline = cs.Now.Add(t.ReceiveTimeout.D()).Time()
	t.change()
	cs.commit.Due = true
	err := cs.Exec(ctx, "UPDATE responses SET next_send_at = ?, expires_at = ?, version = ? WHERE task_id = ? AND wave = ? AND status = ?",
		cs.Now, t.deadline(), t.Version, t.ID, r.Wave, string(tasker.Pending))
	if err != nil {
		return fmt.Errorf("begin a wave: %w", err)
	}
	return nil
}

// skipWaves ends the responses of waves that have not begun.
func skipWaves(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
	if err := cs.loadWhere(ctx, "task_id = ? AND wave > ? AND status = ?", t.ID, r.Wave, string(tasker.Pending)); err != nil {
		return err
	}
	for _, row := range cs.responses {
		if row.Wave > r.Wave && row.Status == tasker.Pending {
			cs.end(row, tasker.Skipped, r.Reason, false)
		}
	}
	return nil
}
