package store

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
)

// TaskController changes tasks on request: cancel, retry, undo, pause, resume.
type TaskController struct{ db *database }

// CancelTask stores the request to cancel and its sender; pending responses end at once.
// A finished or cancelled task stays as it is.
func (c *TaskController) CancelTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.change(ctx, "cancel a task", taskType, ref, func(cs *changeSet, t *taskRow) error {
		if t.FinishedAt != nil || t.CancelRequestedAt != nil {
			return nil
		}
		if t.pacing == rolloutActive {
			if _, err := applyRequest(ctx, cs, t, decision.Cancel, by); err != nil {
				return err
			}
		}
		if err := cs.loadWhere(ctx, "task_id = ? AND "+statusIn(isUnended), t.ID); err != nil {
			return err
		}
		t.CancelRequestedAt, t.CancelRequestedBy = cs.Now.TimeOrNil(), by
		if err := recordControl(ctx, cs, t, "cancel", by); err != nil {
			return err
		}
		for _, r := range cs.responses {
			cancelResponse(cs, r)
		}
		if t.closesAt != 0 {
			cancelBroadcast(cs, t)
		}
		return nil
	})
}

// RetryTask starts a new attempt of every response that did not succeed, or of all
// responses of a task that was undone, but not before NotBefore. A broadcast that no
// agent received is sent to all agents again.
func (c *TaskController) RetryTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.change(ctx, "retry a task", taskType, ref, func(cs *changeSet, t *taskRow) error {
		return retryTask(ctx, cs, t, by)
	})
}

// UndoTask creates the task that undoes a finished task on the endpoints that started
// it, and returns the new task. Each attempt has one: a repeated call returns it again
// and changes nothing.
func (c *TaskController) UndoTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	var undo string
	_, err := c.change(ctx, "undo a task", taskType, ref, func(cs *changeSet, t *taskRow) error {
		if t.FinishedAt == nil {
			return ErrUnfinished
		}
		id, created, err := createUndo(ctx, cs.tx, t)
		if undo = id; err != nil || !created {
			return err
		}
		return recordControl(ctx, cs, t, "undo", by)
	})
	if err != nil {
		return tasker.Task{}, err
	}
	task, err := readTask(ctx, c.db.Reader(), undo)
	return task, c.db.Wrap("read a task", err)
}

// change finds a task, locks it, changes it and reads it again.
func (c *TaskController) change(ctx context.Context, action, taskType, ref string, fn func(*changeSet, *taskRow) error) (tasker.Task, error) {
	task, err := findTask(ctx, c.db.Reader(), taskType, ref)
	if err != nil {
		return tasker.Task{}, c.db.Wrap(action, err)
	}
	err = c.db.update(ctx, action, func(tx *tx) error {
		cs, err := lockTasks(ctx, tx, []string{task.ID})
		if err != nil {
			return err
		}
		t := cs.tasks[task.ID]
		if t == nil {
			return ErrNotFound
		}
		if err := fn(cs, t); err != nil {
			return err
		}
		if _, err := cs.write(ctx); err != nil {
			return err
		}
		task, err = readTask(ctx, &tx.Conn, t.ID)
		return err
	})
	if err != nil {
		return tasker.Task{}, err
	}
	return task, nil
}

// recordControl stores a person's request, which changes the task.
func recordControl(ctx context.Context, cs *changeSet, t *taskRow, action, by string) error {
	t.change()
	row := []any{t.ID, t.Version, action, cs.Now, by}
	if err := cs.Insert(ctx, "controls", []string{"task_id", "version", "action", "at", "by_whom"}, [][]any{row}); err != nil {
		return fmt.Errorf("record the request: %w", err)
	}
	return nil
}

const cancelledUnsent = "cancelled before it was sent"

// cancelBroadcast closes a broadcast that was not sent, and sends a cancel to all agents
// otherwise.
func cancelBroadcast(cs *changeSet, t *taskRow) {
	t.nextSendAt = 0
	if t.broadcastSent || t.sendTries > 0 {
		t.cancelSendAt, cs.commit.Due = cs.Now, true
	} else {
		t.closesAt = 0 // no agent can have received it
	}
}

// cancelResponse ends a response whose order was not sent, and sends a cancel to the
// other agents. An order that is being sent, or that may have arrived although its send
// failed, may start; its agent reports the outcome.
func cancelResponse(cs *changeSet, r *responseRow) {
	switch sendFailed := r.Reason != "" && r.SentAt == nil; {
	case r.Status == tasker.Pending && r.sendTries == 0:
		cs.end(r, tasker.Cancelled, cancelledUnsent, false)
	case r.Status == tasker.Pending && sendFailed:
		cancelUnsent(cs, r)
	default:
		r.nextSendAt = 0
		scheduleCancel(cs, r)
	}
}

// cancelUnsent ends a response whose order could not be sent. If the transport is wrong
// and the order has arrived, the agent gets a cancel too, and its reports count.
func cancelUnsent(cs *changeSet, r *responseRow) {
	deadline := r.expiresAt
	cs.end(r, tasker.Cancelled, cancelledUnsent, true)
	if deadline > cs.Now {
		scheduleCancel(cs, r)
	}
}

// scheduleCancel makes the response's cancel order due.
func scheduleCancel(cs *changeSet, r *responseRow) {
	r.cancelSendAt, r.cancelTries, r.dirty = cs.Now, 0, true
	cs.commit.Due = true
}
