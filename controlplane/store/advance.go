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

// RolloutView is what is decided on.
type RolloutView struct {
	Task tasker.Task // with its rollout, without payload and endpoints
	// Blocker says for a person which rollout this one has to wait for, before it
	// begins; empty is none.
	Blocker string
	// Failed are the names of some of the endpoints that count as failed, in their
	// order; there are Task.Counts.Failures() of them.
	Failed []string
	Now    time.Time
}

// maxFailed bounds RolloutView.Failed.
const maxFailed = 5

// RolloutStep is what is decided: where the rollout stands from now on, and what
// is done. At most one of Release, Skip and Rollback is set.
type RolloutStep struct {
	State  tasker.RolloutState
	Resume tasker.RolloutState
	Reason string
	Until  *time.Time
	// Release begins the next wave.
	Release bool
	// Skip ends every response whose wave has not begun as skipped, with Reason.
	Skip bool
	// Rollback makes the task that undoes this one.
	Rollback bool
	// Again is when to look again though no response changes; nil is never.
	Again *time.Time
}

// DueRollouts are the rollouts to look at now, those that wait longest first.
func (r *Rollouts) DueRollouts(ctx context.Context, limit int) ([]string, error) {
	const action = "read due rollouts"
	now, err := r.db.Now(ctx)
	if err != nil {
		return nil, r.db.Wrap(action, err)
	}
	ids, err := r.db.Reader().QueryStrings(ctx, "SELECT task_id FROM rollouts WHERE check_at <= ? ORDER BY check_at LIMIT ?", now, limit)
	return ids, r.db.Wrap(action, err)
}

// Gating is a rollout that stands before its gate.
type Gating struct {
	Gate tasker.Gate
	// Endpoints are those of the waves so far.
	Endpoints []string
	// Version is the task's. With another one something has happened since, a pause
	// and a resume perhaps.
	Version int64
}

// GatingRollout reads what the gate of a task's rollout is asked; nil if it is not in
// its gate now, or has none.
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

// maxSteps bounds the steps of one transaction; decide needs a few to come to rest.
const maxSteps = 10

// AdvanceRollout moves a rollout on, in one transaction, for the holder of the
// lease: decide is asked again until it neither changes the state nor does
// anything. It returns the tasks that finished.
func (r *Rollouts) AdvanceRollout(ctx context.Context, l Lease, id string, decide func(RolloutView) RolloutStep) ([]tasker.Task, error) {
	var finished []tasker.Task
	err := r.db.update(ctx, "move a rollout on", func(tx *tx) error {
		finished = nil
		if err := lockLease(ctx, tx, l); err != nil {
			if errors.Is(err, ErrNotFound) {
				return errLapsed
			}
			return err
		}
		for range maxSteps {
			done, more, err := step(ctx, tx, id, decide)
			finished = append(finished, done...)
			if err != nil || !more {
				return err
			}
		}
		return fmt.Errorf("the rollout of task %s does not come to rest", id)
	})
	return finished, err
}

// step is one decision. more says that there may be another one.
func step(ctx context.Context, t *tx, id string, decide func(RolloutView) RolloutStep) (finished []tasker.Task, more bool, err error) {
	cs, err := lockTasks(ctx, t, []string{id})
	if err != nil {
		return nil, false, err
	}
	task := cs.tasks[id]
	if task == nil || task.pacing != pacedNow {
		return nil, false, nil
	}
	r, err := lockRollout(ctx, cs, id)
	if err != nil {
		return nil, false, err
	}
	view := RolloutView{Task: task.Task, Now: t.Now.Time()}
	view.Task.Rollout = &r.Rollout
	if r.State == tasker.RolloutWaiting {
		if view.Blocker, err = blocker(ctx, &t.Conn, r); err != nil {
			return nil, false, err
		}
	}
	if task.Counts.Failures() > 0 {
		if view.Failed, err = t.QueryStrings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND "+statusIn(isFailure)+" ORDER BY endpoint LIMIT ?", id, maxFailed); err != nil {
			return nil, false, fmt.Errorf("read who failed: %w", err)
		}
	}
	was := r.Rollout
	step := decide(view)
	r.State, r.Resume, r.Reason, r.Until, r.checkAt = step.State, step.Resume, step.Reason, step.Until, sqldb.MicrosOrNull(step.Again)
	more = was.State != r.State || step.Release || step.Skip || step.Rollback
	if more || was.Reason != r.Reason || sqldb.MicrosOrNull(was.Until) != sqldb.MicrosOrNull(r.Until) {
		task.change()
	}
	switch {
	case step.Release:
		err = release(ctx, cs, task, r)
	case step.Skip:
		err = skip(ctx, cs, task, r)
	case step.Rollback:
		if r.Rollback, _, err = createUndo(ctx, t, task); errors.Is(err, ErrNothingToUndo) {
			err = nil
		}
	}
	if err != nil {
		return nil, false, err
	}
	r.settle(task)
	task.dirty = true
	if finished, err = cs.write(ctx); err != nil {
		return nil, false, err
	}
	if more = more && task.pacing == pacedNow; more {
		r.checkAt = t.Now
	}
	return finished, more, writeRollout(ctx, &t.Conn, r)
}

// settle makes the rest of both rows what the state says.
func (r *rolloutRow) settle(t *taskRow) {
	t.pacing, t.paused = pacedNow, r.State == tasker.RolloutPaused
	switch {
	case r.State.Ended() && (t.Counts.Ended() == t.Counts.Total() || r.State == tasker.RolloutPlanned):
		t.pacing, r.claims, r.checkAt = pacedOnce, claimsNothing, 0
		if r.Rollback != "" {
			r.claims = claimsNow // until it is undone, see blocker
		}
	case r.Wave > 0:
		r.claims = claimsNow
	case r.State == tasker.RolloutWaiting:
		r.claims = claimsNext
	default:
		r.claims = claimsNothing
	}
}

// release begins the next wave: its receive deadline begins now.
func release(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
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

// skip ends what is in waves that have not begun.
func skip(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
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

// blocker says which rollout has an endpoint of this one and keeps it waiting,
// because it or this one is exclusive: one that is under way or being rolled back,
// or one that waits and came earlier.
func blocker(ctx context.Context, c *sqldb.Conn, r *rolloutRow) (string, error) {
	query := `SELECT t.type, t.identifier, o.endpoint, x.rollback_task FROM rollouts x` + c.UseIndex("rollouts_claiming") + c.StraightJoin + `tasks t` + c.StraightJoin +
		`responses o` + c.StraightJoin + `responses mine
		WHERE x.claims >= ? AND (x.claims = ? OR x.task_id < ?) AND x.task_id <> ? AND (x.exclusive = 1 OR 1 = ?)
		AND (x.rollback_task = '' OR EXISTS (SELECT 1 FROM tasks u WHERE u.id = x.rollback_task AND u.finished_at IS NULL))
		AND t.id = x.task_id AND o.task_id = x.task_id AND mine.task_id = ? AND mine.endpoint = o.endpoint LIMIT 1`
	exclusive := 0
	if r.Exclusive {
		exclusive = 1
	}
	var taskType, identifier, endpoint, undo string
	err := c.QueryRow(ctx, query, []any{claimsNext, claimsNow, r.taskID, r.taskID, exclusive, r.taskID}, &taskType, &identifier, &endpoint, &undo)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for rollouts on the same endpoints: %w", err)
	case undo != "":
		return fmt.Sprintf("waits until %s %s is undone, which has %s too", taskType, identifier, endpoint), nil
	}
	return fmt.Sprintf("waits for %s %s, which has %s too", taskType, identifier, endpoint), nil
}
