package store

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// CancelTask stores that a cancel was asked for and by whom; pending responses
// end at once. On a finished or cancelled task it changes nothing.
func (s *Store) CancelTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return s.change(ctx, "cancel a task", taskType, ref, func(u *unit, t *taskRow) error {
		if t.FinishedAt != nil || t.CancelRequestedAt != nil {
			return nil
		}
		if err := u.loadOpen(ctx, t.ID); err != nil {
			return err
		}
		t.CancelRequestedAt, t.CancelRequestedBy = u.now.at(), by
		if err := u.noted(ctx, t, "cancel", by); err != nil {
			return err
		}
		for _, r := range u.rows {
			u.cancel(r)
		}
		if t.closesAt != 0 {
			t.nextSendAt = 0
			if t.sent || t.tries > 0 {
				t.cancelSendAt, u.commit.Due = u.now, true
			} else {
				t.closesAt = 0 // nobody can have heard of it
			}
		}
		return nil
	})
}

// cancel ends a response that was not sent, and has the others told. One that is
// being sent at this moment may be started: what becomes of it the agent says.
func (u *unit) cancel(r *responseRow) {
	switch failed := r.Reason != ""; {
	case r.Status == tasker.Pending && r.tries == 0:
		u.end(r, tasker.Cancelled, unsentReason, false)
	case r.Status == tasker.Pending && failed:
		u.cancelUnsent(r)
	default:
		r.nextSendAt = 0
		u.tellCancel(r)
	}
}

const unsentReason = "cancelled before it was sent"

// cancelUnsent ends a response whose order could not be sent. It may have
// arrived all the same: so the agent is told too, and its word would count.
func (u *unit) cancelUnsent(r *responseRow) {
	deadline := r.expiresAt
	u.end(r, tasker.Cancelled, unsentReason, true)
	if deadline > u.now {
		u.tellCancel(r)
	}
}

func (u *unit) tellCancel(r *responseRow) {
	r.cancelSendAt, r.cancelTries, r.dirty = u.now, 0, true
	u.commit.Due = true
}

// RetryTask makes a new attempt of every response that did not succeed, or of all
// of a task that was undone, not before its time. A broadcast that nobody received is
// sent to everyone again.
func (s *Store) RetryTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return s.change(ctx, "retry a task", taskType, ref, func(u *unit, t *taskRow) error {
		succeeded, total := t.Counts[tasker.Succeeded], t.Counts.Total()
		undone, err := u.undone(ctx, t)
		if undone {
			succeeded = 0
		}
		switch {
		case err != nil:
			return err
		case t.closesAt != 0 || t.Counts.Ended() < total:
			return ErrOpen
		case total > 0 && succeeded == total:
			return ErrNothingToRetry
		}
		t.attempt++
		t.Reason, t.CancelRequestedAt, t.CancelRequestedBy, t.FinishedAt = "", nil, "", nil
		begin := max(u.now, microsAt(t.NotBefore))
		t.ReceiveDeadline = begin.add(t.ReceiveTimeout.D()).time()
		t.sent, t.tries, t.cancelSendAt, t.cancelTries = false, 0, 0, 0
		if err := u.noted(ctx, t, "retry", by); err != nil {
			return err
		}
		u.commit.Due = true
		if total == 0 {
			t.nextSendAt, t.closesAt = begin, t.deadline()
			return nil
		}
		t.Counts = tasker.Counts{tasker.Pending: total - succeeded}
		if succeeded > 0 {
			t.Counts[tasker.Succeeded] = succeeded
		}
		if undone {
			if err := u.exec(ctx, "UPDATE responses SET status = 'pending', started_at = NULL, begun = 0 WHERE task_id = ?", t.ID); err != nil {
				return fmt.Errorf("write the responses: %w", err)
			}
		}
		at, deadline := begin, t.deadline()
		if t.pacing != pacedNever && t.Action != tasker.Plan {
			if err := u.again(ctx, t, total-succeeded, begin); err != nil {
				return err
			}
			at, deadline = 0, 0
		}
		// begun first, as it goes by what the others were before (on MySQL the order counts).
		err = u.exec(ctx, `UPDATE responses SET begun = CASE WHEN `+started+` THEN 1 ELSE begun END, status = 'pending', attempt = ?, seq = 0, reason = '', error = '',
			result = NULL, exit_code = NULL, progress = NULL, presumed = 0, late = 0, sent_at = NULL, received_at = NULL,
			started_at = NULL, finished_at = NULL, output_bytes = 0, output_truncated = 0, expires_at = ?,
			next_send_at = ?, send_tries = 0, cancel_send_at = NULL, cancel_tries = 0, version = ?
			WHERE task_id = ? AND status <> 'succeeded'`, t.attempt, deadline, at, t.Version+1, t.ID)
		if err != nil {
			return fmt.Errorf("write the responses: %w", err)
		}
		return nil
	})
}

// change finds a task, locks it, changes it and reads it again.
func (s *Store) change(ctx context.Context, doing, taskType, ref string, fn func(*unit, *taskRow) error) (tasker.Task, error) {
	found, err := s.direct().find(ctx, taskType, ref)
	if err != nil {
		return tasker.Task{}, s.fail(doing, err)
	}
	var tasks []tasker.Task
	err = s.update(ctx, doing, func(tx *tx) error {
		u, err := tx.lock(ctx, []string{found.ID})
		if err != nil {
			return err
		}
		t := u.tasks[found.ID]
		if t == nil {
			return ErrNotFound
		}
		if err := fn(u, t); err != nil {
			return err
		}
		if _, err := u.flush(ctx); err != nil {
			return err
		}
		tasks, err = tx.readTasks(ctx, []string{t.ID})
		return err
	})
	if err != nil {
		return tasker.Task{}, err
	}
	return tasks[0], nil
}
