package store

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// retryTask starts a new attempt of a task.
func retryTask(ctx context.Context, cs *changeSet, t *taskRow, by string) error {
	r, step, err := decideRetry(ctx, cs, t, by)
	if err != nil {
		return err
	}
	succeeded, total := t.Counts[tasker.Succeeded], t.Counts.Total()
	undone, err := isUndone(ctx, cs.tx, t)
	if undone {
		succeeded = 0
	}
	switch {
	case err != nil:
		return err
	case t.closesAt != 0 || t.Counts.Ended() < total:
		return ErrUnfinished
	case total > 0 && succeeded == total:
		return ErrNothingToRetry
	}
	begin := max(cs.Now, sqldb.MicrosOrNull(t.NotBefore))
	t.attempt++
	t.Reason, t.CancelRequestedAt, t.CancelRequestedBy, t.FinishedAt = "", nil, "", nil
	t.ReceiveDeadline = begin.Add(t.ReceiveTimeout.D()).Time()
	t.broadcastSent, t.sendTries, t.cancelSendAt, t.cancelTries = false, 0, 0, 0
	if err := recordControl(ctx, cs, t, "retry", by); err != nil {
		return err
	}
	cs.commit.Due = true
	if total == 0 {
		t.nextSendAt, t.closesAt = begin, t.deadline()
		return nil
	}
	t.Counts = tasker.Counts{tasker.Pending: total - succeeded}
	if succeeded > 0 {
		t.Counts[tasker.Succeeded] = succeeded
	}
	if undone {
		// Nothing is in effect any more, so every response starts again.
		if err := cs.Exec(ctx, "UPDATE responses SET status = ?, started_at = NULL, begun = 0 WHERE task_id = ?", string(tasker.Pending), t.ID); err != nil {
			return fmt.Errorf("write the responses: %w", err)
		}
	}
	nextSend, deadline := begin, t.deadline()
	if step.Restart {
		if err := applyStep(ctx, cs, t, r, step); err != nil {
			return err
		}
		nextSend, deadline = 0, 0
	}
	return resetResponses(ctx, cs, t, nextSend, deadline)
}

// decideRetry decides on a retry of the task's rollout, if it has one.
func decideRetry(ctx context.Context, cs *changeSet, t *taskRow, by string) (r *rolloutRow, step decision.Step, err error) {
	if t.pacing != noRollout {
		r, step, err = decideRequest(ctx, cs, t, decision.Retry, by)
	}
	return r, step, err
}

// resetResponses makes every response that did not succeed pending in the task's new
// attempt.
func resetResponses(ctx context.Context, cs *changeSet, t *taskRow, nextSend, deadline sqldb.Micros) error {
	// begun comes first because it depends on the other columns' old values: MySQL
	// assigns from left to right.
	err := cs.Exec(ctx, `UPDATE responses SET begun = CASE WHEN `+mayHaveStarted()+` THEN 1 ELSE begun END, status = ?, attempt = ?, seq = 0, reason = '', error = '',
		result = NULL, exit_code = NULL, progress = NULL, presumed = 0, late = 0, sent_at = NULL, received_at = NULL,
		started_at = NULL, finished_at = NULL, output_bytes = 0, output_truncated = 0, expires_at = ?,
		next_send_at = ?, send_tries = 0, cancel_send_at = NULL, cancel_tries = 0, version = ?
		WHERE task_id = ? AND status <> ?`,
		string(tasker.Pending), t.attempt, deadline, nextSend, t.Version, t.ID, string(tasker.Succeeded))
	if err != nil {
		return fmt.Errorf("write the responses: %w", err)
	}
	return nil
}
