package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
)

const (
	// CallbackHold is how long a claim keeps a call from being claimed again.
	CallbackHold = time.Minute
	// maxCallError bounds what is kept of an error, in bytes.
	maxCallError = 500
)

// Call is a call that is due, held for CallbackHold by whoever claimed it.
type Call struct {
	ID     string
	TaskID string
	URL    string
	Event  tasker.CallbackEvent
	// At is when it happened, Data the task as it was then, as JSON.
	At   time.Time
	Data []byte
	// Attempt is which attempt this one is, from 1, Now when it begins.
	Attempt int
	Now     time.Time
}

// Called says how an attempt went.
type Called struct {
	Call
	// Error is why it failed, for people; empty if it did not.
	Error string
	// Again is after which time it is tried again; nil is never.
	Again *time.Duration
}

// happened is what the change of a task is told as.
func (t *taskRow) happened() []tasker.CallbackEvent {
	var events []tasker.CallbackEvent
	add := func(e tasker.CallbackEvent, yes bool) {
		if yes && t.Callback.For(e) {
			events = append(events, e)
		}
	}
	add(tasker.CallbackPaused, t.paused && !t.wasPaused)
	add(tasker.CallbackIncomplete, t.Status == tasker.TaskIncomplete && t.wasStatus != tasker.TaskIncomplete)
	add(tasker.CallbackFinished, t.FinishedAt != nil && (!t.was || t.Status != t.wasStatus))
	return events
}

// told is a task as it is told: what may be large and does not change is left out.
type told struct {
	tasker.Task
	Payload   *struct{} `json:"payload,omitempty"`
	Endpoints *struct{} `json:"endpoints,omitempty"`
}

// tell stores what is to be told of a task that has changed.
func (u *unit) tell(ctx context.Context, t *taskRow) error {
	events := t.happened()
	if len(events) == 0 {
		return nil
	}
	data := told{Task: t.Task}
	if t.pacing != pacedNever {
		r, err := u.rollout(ctx, t.ID)
		if err != nil {
			return err
		}
		data.Rollout = &r.Rollout
	}
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write what is told of task %s: %w", t.ID, err)
	}
	var rows [][]any
	for _, event := range events {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an id: %w", err)
		}
		rows = append(rows, []any{id.String(), t.ID, string(event), t.Callback.URL, u.now, b, 0, u.now, ""})
	}
	u.commit.Callbacks = true
	err = u.insertRows(ctx, "callbacks", words("id, task_id, event, url, at, data, attempts, next_at, last_error"), "", rows)
	if err != nil {
		return fmt.Errorf("write what is told of task %s: %w", t.ID, err)
	}
	return nil
}

// ClaimCalls returns up to limit calls that are due, those that wait longest first,
// and holds them.
func (s *Store) ClaimCalls(ctx context.Context, limit int) ([]Call, error) {
	var calls []Call
	err := s.update(ctx, "claim callbacks", func(tx *tx) error {
		calls = nil
		query := "SELECT id, task_id, event, url, at, data, attempts FROM callbacks WHERE next_at <= ? ORDER BY next_at LIMIT ?" + tx.skipLocked
		err := tx.rows(ctx, query, []any{tx.now, limit}, func(r *sql.Rows) error {
			c := Call{Now: tx.now.time()}
			var at micros
			err := r.Scan(&c.ID, &c.TaskID, &c.Event, &c.URL, &at, &c.Data, &c.Attempt)
			c.At, c.Attempt = at.time(), c.Attempt+1
			calls = append(calls, c)
			return err
		})
		if err != nil || len(calls) == 0 {
			return err
		}
		ids := make([]any, len(calls))
		for i, c := range calls {
			ids[i] = c.ID
		}
		return tx.exec(ctx, "UPDATE callbacks SET next_at = ?, attempts = attempts + 1 WHERE id IN ("+marks(len(ids))+")",
			append([]any{tx.now.add(CallbackHold)}, ids...)...)
	})
	return calls, err
}

// SettleCall writes down how an attempt went, unless another one has begun
// meanwhile because the claim had run out.
func (s *Store) SettleCall(ctx context.Context, c Called) error {
	return s.update(ctx, "write how a callback went", func(tx *tx) error {
		set, args := "", []any{}
		if c.Error == "" {
			set, args = "delivered_at = ?", append(args, tx.now)
		} else {
			set, args = "last_error = ?", append(args, cut(c.Error, maxCallError))
		}
		if c.Error != "" && c.Again != nil {
			set, args = set+", next_at = ?", append(args, tx.now.add(*c.Again))
		} else {
			set += ", next_at = NULL, data = NULL"
		}
		return tx.exec(ctx, "UPDATE callbacks SET "+set+" WHERE id = ? AND attempts = ?", append(args, c.ID, c.Attempt)...)
	})
}

// Deliveries are the events of a task that were to be told, in their order.
func (s *Store) Deliveries(ctx context.Context, id string) ([]tasker.Delivery, error) {
	var list []tasker.Delivery
	query := "SELECT id, event, at, attempts, next_at, delivered_at, last_error FROM callbacks WHERE task_id = ? ORDER BY id"
	err := s.direct().rows(ctx, query, []any{id}, func(r *sql.Rows) error {
		d := tasker.Delivery{Status: tasker.DeliveryGivenUp}
		var at, next, delivered micros
		err := r.Scan(&d.ID, &d.Event, &at, &d.Attempts, &next, &delivered, &d.LastError)
		d.At, d.NextAttemptAt, d.DeliveredAt = at.time(), next.at(), delivered.at()
		switch {
		case delivered != 0:
			d.Status = tasker.DeliveryDelivered
		case next != 0:
			d.Status = tasker.DeliveryWaiting
		}
		list = append(list, d)
		return err
	})
	return list, s.fail("read the callbacks of a task", err)
}

// CallbackKey returns the key that callbacks are signed with; if there is none yet,
// that is the one offered. Several control planes get the same.
func (s *Store) CallbackKey(ctx context.Context, offered [32]byte) ([]byte, error) {
	return s.key(ctx, "callbacks", offered)
}
