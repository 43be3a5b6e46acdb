package store

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
)

// CreateTask stores the task and its responses in one transaction. The same
// identifier again with the same fingerprint returns the stored task and
// false, with another one ErrConflict.
func (s *Store) CreateTask(ctx context.Context, t NewTask) (tasker.Task, bool, error) {
	const doing = "create a task"
	if t.Endpoints != nil && len(t.Endpoints) == 0 {
		return tasker.Task{}, false, errors.New("create a task: endpoints is empty; leave it out to address everyone")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tasker.Task{}, false, fmt.Errorf("%s: make an id: %w", doing, err)
	}
	var row *taskRow
	err = s.update(ctx, doing, func(tx *tx) error {
		row = t.row(id.String(), tx.now)
		tx.commit = Commit{Tasks: []string{row.ID}, Due: true}
		return tx.create(ctx, row, t.Fingerprint)
	})
	switch {
	case err == nil:
		return row.Task, true, nil
	case s.dialect.fault(err) != faultDuplicate:
		return tasker.Task{}, false, err
	}
	// The transaction has ended, so this sees whoever was first.
	return s.winner(ctx, t)
}

func (s *Store) winner(ctx context.Context, t NewTask) (tasker.Task, bool, error) {
	const doing = "read the task of the same identifier"
	var id string
	var fingerprint []byte
	c := s.direct()
	err := c.row(ctx, "SELECT id, fingerprint FROM tasks WHERE type = ? AND identifier = ?", []any{t.Type, t.Identifier}, &id, &fingerprint)
	if err != nil {
		return tasker.Task{}, false, s.fail(doing, err)
	}
	if subtle.ConstantTimeCompare(fingerprint, t.Fingerprint[:]) != 1 {
		return tasker.Task{}, false, ErrConflict
	}
	tasks, err := c.readTasks(ctx, []string{id})
	if err == nil && len(tasks) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return tasker.Task{}, false, s.fail(doing, err)
	}
	return tasks[0], false, nil
}

// row is the task as it is stored first.
func (t NewTask) row(id string, now micros) *taskRow {
	row := &taskRow{
		Task: tasker.Task{
			ID: id, Type: t.Type, Identifier: t.Identifier, Payload: t.Payload, Endpoints: t.Endpoints,
			Counts: tasker.Counts{}, CreatedAt: now.time(),
			ReceiveTimeout:  tasker.Duration(t.ReceiveTimeout.Truncate(time.Microsecond)),
			ReceiveDeadline: now.add(t.ReceiveTimeout).time(),
			Timeout:         tasker.Duration(t.Timeout.Truncate(time.Microsecond)),
		},
		broadcast: t.Endpoints == nil,
		attempt:   1,
	}
	if len(row.Payload) == 0 {
		row.Payload = json.RawMessage("{}")
	}
	if row.broadcast {
		row.nextSendAt, row.closesAt = now, row.deadline()
	} else {
		row.Counts[tasker.Pending] = len(t.Endpoints)
	}
	row.derive(now)
	return row
}

const (
	newTask = taskBody + ", fingerprint, retried_by"
	// newResponse are the columns in which a stored response may differ from
	// another, and those that have no default.
	newResponse = `task_id, endpoint, status, attempt, seq, reason, error, presumed, late,
		output_bytes, output_truncated, expires_at, next_send_at, send_tries, cancel_tries, version`
)

func (t *tx) create(ctx context.Context, row *taskRow, fingerprint [32]byte) error {
	counts, err := json.Marshal(row.Counts)
	if err != nil {
		return fmt.Errorf("write the counts: %w", err)
	}
	var endpoints any
	if !row.broadcast {
		b, err := json.Marshal(row.Endpoints)
		if err != nil {
			return fmt.Errorf("write the endpoints: %w", err)
		}
		endpoints = string(b)
	}
	// In the order of newTask.
	values := []any{
		row.ID, row.Type, row.Identifier, string(row.Status), row.Reason, string(counts), row.attempt,
		row.ReceiveTimeout.D().Microseconds(), row.deadline(), row.Timeout.D().Microseconds(),
		t.now, microsAt(row.FinishedAt), nil, "", row.broadcast, false, row.closesAt,
		row.nextSendAt, 0, nil, 0, row.Version, []byte(row.Payload), endpoints,
		fingerprint[:], "",
	}
	if err := t.insertRows(ctx, "tasks", words(newTask), "", [][]any{values}); err != nil {
		return err
	}
	rows := make([][]any, len(row.Endpoints))
	for i, name := range row.Endpoints {
		rows[i] = []any{
			row.ID, name, string(tasker.Pending), row.attempt, 0, "", "", false, false,
			0, false, row.deadline(), t.now, 0, 0, row.Version,
		}
	}
	return t.insertRows(ctx, "responses", words(newResponse), "", rows)
}
