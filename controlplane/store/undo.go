package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
)

// UndoTask makes the task that undoes an ended one where it was started, and
// returns it. There is one for each attempt: asked again, it is the same, and nothing
// changes.
func (s *Store) UndoTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	var undo string
	task, err := s.change(ctx, "undo a task", taskType, ref, func(u *unit, t *taskRow) error {
		if t.FinishedAt == nil {
			return ErrOpen
		}
		id, made, err := u.undo(ctx, t)
		if undo = id; err != nil || !made {
			return err
		}
		return u.noted(ctx, t, "undo", by)
	})
	if err != nil {
		return tasker.Task{}, err
	}
	return s.Task(ctx, task.Type, undo)
}

// started are the responses whose last attempt was started, or may have been: those of
// agents that had it and fell silent, and those that are missing though it was sent to
// them.
const started = `status NOT IN ('skipped','rejected') AND (started_at IS NOT NULL OR status = 'interrupted'
	OR status = 'cancelled' AND presumed = 1 AND received_at IS NOT NULL OR status = 'missing' AND sent_at IS NOT NULL)`

// undo makes the task that undoes one where it was started, or may have been, in its
// last attempt or in an earlier one that was not undone, unless there is one already,
// and returns its id.
func (t *tx) undo(ctx context.Context, of *taskRow) (undo string, made bool, err error) {
	names, err := t.strings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND (begun = 1 OR "+started+") ORDER BY wave, endpoint", of.ID)
	if err != nil {
		return "", false, fmt.Errorf("look where the task was started: %w", err)
	}
	if len(names) == 0 {
		return "", false, ErrNothingToUndo
	}
	tasks, err := t.readTasks(ctx, []string{of.ID}) // for its payload
	if err != nil {
		return "", false, err
	}
	known, err := t.undoneBy(ctx, of)
	if err != nil || known != "" {
		return known, false, err
	}
	identifier := tasker.UndoIdentifier(of.ID, of.attempt)
	id, err := uuid.NewV7()
	if err != nil {
		return "", false, fmt.Errorf("make an id: %w", err)
	}
	n := NewTask{
		Identifier: identifier, Type: of.Type, Payload: tasks[0].Payload, Endpoints: names, Action: tasker.Undo, Undoes: of.ID,
		ReceiveTimeout: of.ReceiveTimeout.D(), Timeout: of.Timeout.D(), Callback: of.Callback, Fingerprint: sha256.Sum256([]byte(identifier)),
	}
	t.commit.Due = true
	return id.String(), true, t.insertTasks(ctx, []*creation{{NewTask: n, id: id.String()}}, false)
}

// undoing finds the task that undoes the last attempt of one.
const undoing = " FROM tasks WHERE type = ? AND identifier = ? AND undoes = ?"

// undoing are the values for it.
func (t *taskRow) undoing() []any { return []any{t.Type, tasker.UndoIdentifier(t.ID, t.attempt), t.ID} }

// undone says whether the last attempt of a task was undone; ErrUndoing if that is
// being done, or about to begin.
func (t *tx) undone(ctx context.Context, of *taskRow) (bool, error) {
	if of.pacing == pacedNow {
		var state tasker.RolloutState
		if err := t.row(ctx, "SELECT state FROM rollouts WHERE task_id = ?", []any{of.ID}, &state); err != nil {
			return false, fmt.Errorf("look whether the task is to be undone: %w", err)
		}
		if state == tasker.RolloutRollingBack {
			return false, ErrUndoing
		}
	}
	var finished micros
	err := t.row(ctx, "SELECT finished_at"+undoing, of.undoing(), &finished)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look whether the task was undone: %w", err)
	case finished == 0:
		return false, ErrUndoing
	}
	return true, nil
}

// UndoneBy is the id of the task that undoes the last attempt of a task, begun or
// not; empty if there is none.
func (s *Store) UndoneBy(ctx context.Context, id string) (string, error) {
	const doing = "look which task undoes another one"
	of, c := &taskRow{Task: tasker.Task{ID: id}}, s.direct()
	err := c.row(ctx, "SELECT type, attempt FROM tasks WHERE id = ?", []any{id}, &of.Type, &of.attempt)
	if err != nil {
		return "", s.fail(doing, err)
	}
	undo, err := c.undoneBy(ctx, of)
	return undo, s.fail(doing, err)
}

func (c *conn) undoneBy(ctx context.Context, of *taskRow) (string, error) {
	known, err := c.strings(ctx, "SELECT id"+undoing, of.undoing()...)
	if len(known) == 0 {
		return "", err
	}
	return known[0], err
}
