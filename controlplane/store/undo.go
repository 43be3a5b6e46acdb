package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// mayHaveStarted is the condition that an agent has started, or may have started, the
// last attempt of a response: the agent received it and fell silent, or the order was
// sent and nothing was reported.
func mayHaveStarted() string {
	return "status NOT IN (" + quote(tasker.Skipped) + "," + quote(tasker.Rejected) + ") AND (started_at IS NOT NULL OR status = " + quote(tasker.Interrupted) +
		" OR status = " + quote(tasker.Cancelled) + " AND presumed = 1 AND received_at IS NOT NULL" +
		" OR status = " + quote(tasker.Missing) + " AND sent_at IS NOT NULL)"
}

// createUndo creates the task that undoes another one on the endpoints that started
// it, or may have, in its last attempt or in an earlier one that was not undone. It
// returns the id of the undo task and whether it is new.
func createUndo(ctx context.Context, t *tx, task *taskRow) (id string, created bool, err error) {
	names, err := t.QueryStrings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND (begun = 1 OR "+mayHaveStarted()+") ORDER BY wave, endpoint", task.ID)
	if err != nil {
		return "", false, fmt.Errorf("read where the task was started: %w", err)
	}
	if len(names) == 0 {
		return "", false, ErrNothingToUndo
	}
	whole, err := readTask(ctx, &t.Conn, task.ID) // for its payload
	if err != nil {
		return "", false, err
	}
	existing, err := findUndo(ctx, &t.Conn, task)
	if err != nil || existing != "" {
		return existing, false, err
	}
	identifier := tasker.UndoIdentifier(task.ID, task.attempt)
	undo, err := newRows(NewTask{
		Identifier: identifier, Type: task.Type, Payload: whole.Payload, Endpoints: names, Action: tasker.Undo, Undoes: task.ID,
		ReceiveTimeout: task.ReceiveTimeout.D(), Timeout: task.Timeout.D(), Callback: task.Callback, Fingerprint: sha256.Sum256([]byte(identifier)),
	})
	if err != nil {
		return "", false, err
	}
	t.commit.Due = true
	return undo.id, true, insertTasks(ctx, t, []*newTaskRows{undo})
}

// undoCondition is the condition of the task that undoes the last attempt of a task.
func undoCondition(task *taskRow) condition {
	return condition{"type = ? AND identifier = ? AND undoes = ?", []any{task.Type, tasker.UndoIdentifier(task.ID, task.attempt), task.ID}}
}

// isUndone reports whether the last attempt of a task was undone. It returns
// ErrUndoing while the undo task runs.
func isUndone(ctx context.Context, t *tx, task *taskRow) (bool, error) {
	undo := undoCondition(task)
	var finished sqldb.Micros
	err := t.QueryRow(ctx, "SELECT finished_at FROM tasks WHERE "+undo.where, undo.args, &finished)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the undo task: %w", err)
	case finished == 0:
		return false, ErrUndoing
	}
	return true, nil
}

func findUndo(ctx context.Context, c *sqldb.Conn, task *taskRow) (string, error) {
	var id string
	undo := undoCondition(task)
	err := c.QueryRow(ctx, "SELECT id FROM tasks WHERE "+undo.where, undo.args, &id)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return id, err
}
