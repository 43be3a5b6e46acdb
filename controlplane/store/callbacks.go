package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

const (
	// CallbackHold is how long a claim keeps a callback from being claimed again.
	CallbackHold = time.Minute
	// maxCallError bounds the stored error of a callback, in bytes.
	maxCallError = 500
)

// Call is a due callback that a process holds for CallbackHold.
type Call struct {
	ID     string
	TaskID string
	URL    string
	Event  tasker.CallbackEvent
	// At is the time of the event, Data the task at that time as JSON.
	At   time.Time
	Data []byte
	// Attempt is the number of this attempt, from 1; Now is when it begins.
	Attempt int
	Now     time.Time
}

// Called is the outcome of an attempt.
type Called struct {
	Call
	// Error is the reason of a failure, for people; empty after a success.
	Error string
	// Again is the delay before the next attempt; nil is no further attempt.
	Again *time.Duration
}

// Callbacks stores the events of tasks until they are delivered.
type Callbacks struct{ db *database }

// ClaimCalls returns up to limit due callbacks, oldest first, and holds them.
func (c *Callbacks) ClaimCalls(ctx context.Context, limit int) ([]Call, error) {
	var calls []Call
	err := c.db.update(ctx, "claim callbacks", func(tx *tx) error {
		calls = nil
		query := "SELECT id, task_id, event, url, at, data, attempts FROM callbacks WHERE next_at <= ? ORDER BY next_at LIMIT ?" + tx.SkipLocked()
		err := tx.Query(ctx, query, []any{tx.Now, limit}, func(r *sql.Rows) error {
			call := Call{Now: tx.Now.Time()}
			var at sqldb.Micros
			err := r.Scan(&call.ID, &call.TaskID, &call.Event, &call.URL, &at, &call.Data, &call.Attempt)
			call.At, call.Attempt = at.Time(), call.Attempt+1
			calls = append(calls, call)
			return err
		})
		if err != nil || len(calls) == 0 {
			return err
		}
		args := []any{tx.Now.Add(CallbackHold)}
		for _, call := range calls {
			args = append(args, call.ID)
		}
		return tx.Exec(ctx, "UPDATE callbacks SET next_at = ?, attempts = attempts + 1 WHERE id IN ("+sqldb.Placeholders(len(calls))+")", args...)
	})
	return calls, err
}

// SettleCall stores the outcome of an attempt, unless the claim has expired and
// another attempt has begun.
func (c *Callbacks) SettleCall(ctx context.Context, outcome Called) error {
	return c.db.update(ctx, "store the outcome of a callback", func(tx *tx) error {
		set, args := "", []any{}
		if outcome.Error == "" {
			set, args = "delivered_at = ?", append(args, tx.Now)
		} else {
			set, args = "last_error = ?", append(args, truncate(outcome.Error, maxCallError))
		}
		if outcome.Error != "" && outcome.Again != nil {
			set, args = set+", next_at = ?", append(args, tx.Now.Add(*outcome.Again))
		} else {
			set += ", next_at = NULL, data = NULL"
		}
		return tx.Exec(ctx, "UPDATE callbacks SET "+set+" WHERE id = ? AND attempts = ?", append(args, outcome.ID, outcome.Attempt)...)
	})
}

// Deliveries lists the callbacks of a task in the order of their events.
func (c *Callbacks) Deliveries(ctx context.Context, id string) ([]tasker.Delivery, error) {
	var list []tasker.Delivery
	query := "SELECT id, event, at, attempts, next_at, delivered_at, last_error FROM callbacks WHERE task_id = ? ORDER BY id"
	err := c.db.Reader().Query(ctx, query, []any{id}, func(r *sql.Rows) error {
		d := tasker.Delivery{Status: tasker.DeliveryGivenUp}
		var at, next, delivered sqldb.Micros
		err := r.Scan(&d.ID, &d.Event, &at, &d.Attempts, &next, &delivered, &d.LastError)
		d.At, d.NextAttemptAt, d.DeliveredAt = at.Time(), next.TimeOrNil(), delivered.TimeOrNil()
		switch {
		case delivered != 0:
			d.Status = tasker.DeliveryDelivered
		case next != 0:
			d.Status = tasker.DeliveryWaiting
		}
		list = append(list, d)
		return err
	})
	return list, c.db.Wrap("read the callbacks of a task", err)
}
