package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

const (
	// welcomeLife is for how long a welcome is of use.
	welcomeLife = 30 * time.Second
	// tombstoneLife is how long after the deadline a cancel is of use to an agent
	// that has not received the assignment.
	tombstoneLife = time.Hour
	// claimBytes bounds the payloads that one ClaimDue reads.
	claimBytes = 32 << 20
)

// queue is one of the four columns that say when an order is due.
type queue struct {
	table, column, tries string
	// deadline is the column after which the order is of no more use; empty if it
	// is of use until it is cleared.
	deadline string
	cancel   bool
}

// queues are all of them, in the order in which they are claimed.
func queues() []queue {
	return []queue{
		{table: "responses", column: "cancel_send_at", tries: "cancel_tries", cancel: true},
		{table: "tasks", column: "cancel_send_at", tries: "cancel_tries", cancel: true},
		{table: "tasks", column: "next_send_at", tries: "send_tries", deadline: "closes_at"},
		{table: "responses", column: "next_send_at", tries: "send_tries", deadline: "expires_at"},
	}
}

// open is the condition that the deadline has not passed. It is written as a
// sum so that no optimiser takes the deadline's index instead of the queue's.
func (q queue) open() string {
	if q.deadline == "" {
		return ""
	}
	return " AND " + q.deadline + " + 0 > ?"
}

// ClaimDue returns up to limit due orders, oldest first, cancels before
// assignments, and moves each one's next_send_at on by ClaimHold.
func (s *Store) ClaimDue(ctx context.Context, limit int) ([]Claim, error) {
	var claims []Claim
	err := s.update(ctx, "claim orders", func(tx *tx) error {
		claims = nil
		bytes := 0
		payloads := map[string]*taskRow{}
		for _, q := range queues() {
			if len(claims) >= limit || bytes > claimBytes {
				break
			}
			due, err := tx.due(ctx, q, limit-len(claims))
			if err != nil || len(due) == 0 {
				if err != nil {
					return err
				}
				continue
			}
			if err := tx.payloads(ctx, due, payloads, &bytes, q.cancel); err != nil {
				return err
			}
			// Those whose payload was too much for one claim stay due.
			due = slices.DeleteFunc(due, func(c Claim) bool { return payloads[c.TaskID] == nil })
			if err := tx.hold(ctx, q, due); err != nil {
				return err
			}
			for _, c := range due {
				c.Cancel, c.held = q.cancel, tx.now.add(ClaimHold)
				c.Order = s.order(payloads[c.TaskID], c, tx.now)
				claims = append(claims, c)
			}
		}
		return nil
	})
	if err == nil {
		s.flights.begin(claims)
	}
	return claims, err
}

// ReleaseClaims makes due at once what was claimed in the last ClaimHold, or could
// not be sent then. It is for a start: whoever claimed it is dead, or another control
// plane, whose orders then go out twice, which they may.
func (s *Store) ReleaseClaims(ctx context.Context) error {
	return s.update(ctx, "release the claims of before", func(tx *tx) error {
		for _, q := range queues() {
			query := "UPDATE " + q.table + " SET " + q.column + " = ? WHERE " + q.column + " > ? AND " + q.column + " <= ? AND " + q.tries + " > 0"
			if err := tx.exec(ctx, query, tx.now, tx.now, tx.now.add(ClaimHold)); err != nil {
				return fmt.Errorf("release %s of %s: %w", q.column, q.table, err)
			}
		}
		tx.commit.Due = true
		return nil
	})
}

// due finds and locks what is due in one queue.
func (t *tx) due(ctx context.Context, q queue, limit int) ([]Claim, error) {
	id, endpoint := "id", "''"
	if q.table == "responses" {
		id, endpoint = "task_id", "endpoint"
	}
	args := []any{t.now}
	if q.deadline != "" {
		args = append(args, t.now)
	}
	query := "SELECT " + id + ", " + endpoint + ", attempt, " + q.tries + " FROM " + q.table +
		" WHERE " + q.column + " <= ?" + q.open() + " ORDER BY " + q.column + " LIMIT ?" + t.skipLocked
	var due []Claim
	err := t.rows(ctx, query, append(args, limit), func(r *sql.Rows) error {
		var c Claim
		if err := r.Scan(&c.TaskID, &c.Endpoint, &c.Attempt, &c.Tries); err != nil {
			return err
		}
		due = append(due, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for due %s of %s: %w", q.column, q.table, err)
	}
	return due, nil
}

// payloads adds the tasks of the claims to those read, until they are too many
// bytes; a cancel needs no payload.
func (t *tx) payloads(ctx context.Context, due []Claim, tasks map[string]*taskRow, bytes *int, cancel bool) error {
	columns := taskBody
	if cancel {
		columns = taskState
	}
	var ids []string
	for _, c := range due {
		if known := tasks[c.TaskID]; known == nil || (!cancel && known.Payload == nil) {
			ids = append(ids, c.TaskID)
		}
	}
	slices.Sort(ids)
	// A few at a time: each may be of a megabyte.
	for ids := range slices.Chunk(slices.Compact(ids), 16) {
		if *bytes > claimBytes {
			return nil
		}
		err := t.rows(ctx, "SELECT "+columns+" FROM tasks WHERE id IN ("+marks(len(ids))+")", anys(ids), func(r *sql.Rows) error {
			row, err := scanTask(r, !cancel)
			if err == nil {
				tasks[row.ID] = row
				*bytes += len(row.Payload)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read the tasks: %w", err)
		}
	}
	return nil
}

// hold moves the claims' time on.
func (t *tx) hold(ctx context.Context, q queue, due []Claim) error {
	set := "UPDATE " + q.table + " SET " + q.column + " = ?, " + q.tries + " = " + q.tries + " + 1 WHERE "
	until := t.now.add(ClaimHold)
	var where []string
	var args [][]any
	if q.table == "responses" {
		keys := make([]key, len(due))
		for i, c := range due {
			keys[i] = key{c.TaskID, c.Endpoint}
		}
		where, args = conditions(keys)
	} else {
		for _, c := range due {
			where, args = append(where, "id = ?"), append(args, []any{c.TaskID})
		}
	}
	for i := range where {
		if err := t.exec(ctx, set+where[i], append([]any{until}, args[i]...)...); err != nil {
			return fmt.Errorf("hold the claims: %w", err)
		}
	}
	return nil
}

// order is what a claim sends.
func (s *Store) order(t *taskRow, c Claim, now micros) tasker.Order {
	o := tasker.Order{Version: tasker.WireVersion, Endpoint: c.Endpoint, Type: t.Type}
	if c.Endpoint == "" {
		o.Endpoint = tasker.Everyone
	}
	if c.Cancel {
		o.Cancel = &tasker.Cancel{TaskID: t.ID, Attempt: c.Attempt, Deadline: t.ReceiveDeadline, Broadcast: c.Endpoint == ""}
		// What runs may be cancelled long after its deadline.
		o.Expires = s.here(max(t.deadline(), now).add(tombstoneLife), now)
		return o
	}
	handler := s.types[t.Type].Handler
	if handler == "" {
		handler = tasker.ScriptHandler // the type is no longer configured
	}
	o.Assignment = &tasker.Assignment{
		TaskID: t.ID, Identifier: t.Identifier, Attempt: c.Attempt, Handler: handler, Payload: t.Payload,
		Timeout: t.Timeout, Deadline: t.ReceiveDeadline,
	}
	if t.Action != tasker.Perform {
		o.Version, o.Assignment.Action, o.Assignment.Undoes = tasker.ActionVersion, t.Action, t.Undoes
	}
	o.Expires = s.here(t.deadline(), now)
	return o
}

// keys reads pairs of task and endpoint.
func (c *conn) keys(ctx context.Context, query string, args ...any) ([]key, error) {
	var keys []key
	err := c.rows(ctx, query, args, func(r *sql.Rows) error {
		var k key
		err := r.Scan(&k.task, &k.endpoint)
		keys = append(keys, k)
		return err
	})
	return keys, err
}

// strings reads one column.
func (c *conn) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	var list []string
	err := c.rows(ctx, query, args, func(r *sql.Rows) error {
		var v string
		err := r.Scan(&v)
		list = append(list, v)
		return err
	})
	return list, err
}
