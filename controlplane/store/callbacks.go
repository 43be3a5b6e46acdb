package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

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
	// Attempt is the number of this attempt, from 1; StartedAt is when it began.
	Attempt   int
	StartedAt time.Time
}

// CallResult is the outcome of an attempt.
type CallResult struct {
	Call
	// Error is the human-readable reason of a failure; empty after a success.
	Error string
	// RetryAfter is the delay before the next attempt; nil is no further attempt.
	RetryAfter *time.Duration
}

// Callbacks stores the events of tasks until they are delivered.
type Callbacks struct{ db *database }

// ClaimCalls returns up to limit due callbacks, oldest first, and holds them.
func (c *Callbacks) ClaimCalls(ctx context.Context, limit int) ([]Call, error) {
	return updateReturning(ctx, c.db, "claim callbacks", func(tx *tx) ([]Call, error) {
		query := "SELECT id, task_id, event, url, at, data, attempts FROM callbacks WHERE next_at <= ? ORDER BY next_at LIMIT ?" + tx.SkipLocked
		calls, err := sqldb.List(ctx, &tx.Conn, query, []any{tx.Now, limit}, func(r *sql.Rows, call *Call) error {
			var at sqldb.Micros
			err := r.Scan(&call.ID, &call.TaskID, &call.Event, &call.URL, &at, &call.Data, &call.Attempt)
			call.At, call.Attempt, call.StartedAt = at.Time(), call.Attempt+1, tx.Now.Time()
			return err
		})
		if err != nil || len(calls) == 0 {
			return nil, err
		}
		args := []any{tx.Now.Add(CallbackHold)}
		for _, call := range calls {
			args = append(args, call.ID)
		}
		return calls, tx.Exec(ctx, "UPDATE callbacks SET next_at = ?, attempts = attempts + 1 WHERE id IN ("+sqldb.Placeholders(len(calls))+")", args...)
	})
}

// RecordCall stores the outcome of an attempt, unless the claim has expired and
// another attempt has begun.
func (c *Callbacks) RecordCall(ctx context.Context, outcome CallResult) error {
	return c.db.update(ctx, "store the outcome of a callback", func(tx *tx) error {
		set, args := "", []any{}
		if outcome.Error == "" {
			set, args = "delivered_at = ?", append(args, tx.Now)
		} else {
			set, args = "last_error = ?", append(args, truncate(outcome.Error, maxCallError))
		}
		if outcome.Error != "" && outcome.RetryAfter != nil {
			set, args = set+", next_at = ?", append(args, tx.Now.Add(*outcome.RetryAfter))
		} else {
			set += ", next_at = NULL, data = NULL"
		}
		return tx.Exec(ctx, "UPDATE callbacks SET "+set+" WHERE id = ? AND attempts = ?", append(args, outcome.ID, outcome.Attempt)...)
	})
}

// Deliveries lists the callbacks of a task in the order of their events.
func (c *Callbacks) Deliveries(ctx context.Context, id string) ([]tasker.Delivery, error) {
	query := "SELECT id, event, at, attempts, next_at, delivered_at, last_error FROM callbacks WHERE task_id = ? ORDER BY id"
	list, err := sqldb.List(ctx, c.db.Reader(), query, []any{id}, func(r *sql.Rows, d *tasker.Delivery) error {
		var at, next, delivered sqldb.Micros
		err := r.Scan(&d.ID, &d.Event, &at, &d.Attempts, &next, &delivered, &d.LastError)
		d.At, d.NextAttemptAt, d.DeliveredAt = at.Time(), next.TimeOrNil(), delivered.TimeOrNil()
		switch {
		case delivered != 0:
			d.Status = tasker.DeliveryDelivered
		case next != 0:
			d.Status = tasker.DeliveryWaiting
		default:
			d.Status = tasker.DeliveryGivenUp
		}
		return err
	})
	return list, c.db.Wrap("read the callbacks of a task", err)
}

// callbackEvents returns the events of the task's change that its callback subscribes to.
func (t *taskRow) callbackEvents() []tasker.CallbackEvent {
	var events []tasker.CallbackEvent
	add := func(e tasker.CallbackEvent, happened bool) {
		if happened && t.Callback.HasEvent(e) {
			events = append(events, e)
		}
	}
	add(tasker.CallbackPaused, t.paused && !t.wasPaused)
	add(tasker.CallbackIncomplete, t.Status == tasker.TaskIncomplete && t.wasStatus != tasker.TaskIncomplete)
	add(tasker.CallbackFinished, t.FinishedAt != nil && (!t.wasFinished || t.Status != t.wasStatus))
	return events
}

// callbackTask is the task in a callback, without its large, constant fields.
type callbackTask struct {
	tasker.Task
	Payload   *struct{} `json:"payload,omitempty"`
	Endpoints *struct{} `json:"endpoints,omitempty"`
}

// insertCallbacks stores the callbacks for a task that has changed.
func insertCallbacks(ctx context.Context, cs *changeSet, t *taskRow) error {
	events := t.callbackEvents()
	if len(events) == 0 {
		return nil
	}
	task := callbackTask{Task: t.Task}
	if t.pacing != noRollout {
		r, err := lockRollout(ctx, cs, t.ID)
		if err != nil {
			return err
		}
		task.Rollout = &r.Rollout
	}
	data, err := json.Marshal(task)
	if err != nil {
		return fmt.Errorf("write the callback of task %s: %w", t.ID, err)
	}
	var rows [][]any
	for _, event := range events {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an id: %w", err)
		}
		rows = append(rows, []any{id.String(), t.ID, string(event), t.Callback.URL, cs.Now, data, 0, cs.Now, ""})
	}
	cs.commit.Callbacks = true
	columns := []string{"id", "task_id", "event", "url", "at", "data", "attempts", "next_at", "last_error"}
	if err := cs.Insert(ctx, "callbacks", columns, rows); err != nil {
		return fmt.Errorf("write the callback of task %s: %w", t.ID, err)
	}
	return nil
}
