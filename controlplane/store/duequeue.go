package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// dueQueue is one of the four columns that hold when an order is due.
type dueQueue struct {
	table, column, tries string
	// deadline is the column after which the order is useless; empty if there is none.
	deadline string
	cancel   bool
}

// dueQueues returns all queues, in the order in which they are claimed.
func dueQueues() []dueQueue {
	return []dueQueue{
		{table: "responses", column: "cancel_send_at", tries: "cancel_tries", cancel: true},
		{table: "tasks", column: "cancel_send_at", tries: "cancel_tries", cancel: true},
		{table: "tasks", column: "next_send_at", tries: "send_tries", deadline: "closes_at"},
		{table: "responses", column: "next_send_at", tries: "send_tries", deadline: "expires_at"},
	}
}

// dueCondition is the condition that an order is due and its deadline has not passed.
func (q dueQueue) dueCondition(now sqldb.Micros) condition {
	if q.deadline == "" {
		return condition{q.column + " <= ?", []any{now}}
	}
	// The sum keeps optimisers from using the deadline's index instead of the queue's.
	return condition{q.column + " <= ? AND " + q.deadline + " + 0 > ?", []any{now, now}}
}

// lockDue reads and locks up to limit due orders, oldest first.
func (q dueQueue) lockDue(ctx context.Context, t *tx, limit int) ([]Claim, error) {
	id, endpoint := "id", "''"
	if q.table == "responses" {
		id, endpoint = "task_id", "endpoint"
	}
	due := q.dueCondition(t.Now)
	query := "SELECT " + id + ", " + endpoint + ", attempt, " + q.tries + " FROM " + q.table +
		" WHERE " + due.where + " ORDER BY " + q.column + " LIMIT ?" + t.SkipLocked
	claims, err := sqldb.List(ctx, &t.Conn, query, append(due.args, limit), func(r *sql.Rows, c *Claim) error {
		c.Cancel, c.heldUntil = q.cancel, t.Now.Add(ClaimHold)
		return r.Scan(&c.TaskID, &c.Endpoint, &c.Attempt, &c.Tries)
	})
	if err != nil {
		return nil, fmt.Errorf("read due %s of %s: %w", q.column, q.table, err)
	}
	return claims, nil
}

// hold writes when the claims are due again.
func (q dueQueue) hold(ctx context.Context, t *tx, claims []Claim) error {
	set := "UPDATE " + q.table + " SET " + q.column + " = ?, " + q.tries + " = " + q.tries + " + 1 WHERE "
	var conditions []condition
	if q.table == "responses" {
		keys := make([]responseKey, len(claims))
		for i, c := range claims {
			keys[i] = c.key()
		}
		conditions = keyConditions(keys)
	} else {
		for _, c := range claims {
			conditions = append(conditions, condition{"id = ?", []any{c.TaskID}})
		}
	}
	for _, c := range conditions {
		if err := t.Exec(ctx, set+c.where, append([]any{t.Now.Add(ClaimHold)}, c.args...)...); err != nil {
			return fmt.Errorf("hold the claims: %w", err)
		}
	}
	return nil
}

// release makes all orders that are held by a claim due at once.
func (q dueQueue) release(ctx context.Context, t *tx) error {
	query := "UPDATE " + q.table + " SET " + q.column + " = ? WHERE " + q.column + " > ? AND " + q.column + " <= ? AND " + q.tries + " > 0"
	if err := t.Exec(ctx, query, t.Now, t.Now, t.Now.Add(ClaimHold)); err != nil {
		return fmt.Errorf("release %s of %s: %w", q.column, q.table, err)
	}
	return nil
}
