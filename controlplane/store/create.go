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

// createWeight bounds what is created in one transaction: a task weighs one, one
// more for each endpoint and for each KiB of its payload.
const createWeight = 20_000

// creation is one CreateTask.
type creation struct {
	NewTask
	id  string
	row *taskRow
}

// CreateTask stores the task and its responses in one transaction, which it may
// share with others. The same identifier again with the same fingerprint returns
// the stored task and false, with another one ErrConflict.
func (s *Store) CreateTask(ctx context.Context, t NewTask) (tasker.Task, bool, error) {
	if t.Endpoints != nil && len(t.Endpoints) == 0 {
		return tasker.Task{}, false, errors.New("create a task: endpoints is empty; leave it out to address everyone")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tasker.Task{}, false, fmt.Errorf("create a task: make an id: %w", err)
	}
	c := &creation{NewTask: t, id: id.String()}
	err = s.creations.do(ctx, c, 1+len(t.Endpoints)+len(t.Payload)/1024, 0)
	switch {
	case err == nil:
		return c.row.Task, true, nil
	case s.dialect.fault(err) != faultDuplicate:
		return tasker.Task{}, false, err
	}
	// The transaction has ended, so this sees whoever was first.
	return s.winner(ctx, t)
}

// create stores tasks. Where this process sends new orders itself, they are
// stored as claimed, and their claims are told with the commit.
func (s *Store) create(ctx context.Context, list []*creation) error {
	orders := 0
	for _, c := range list {
		orders += max(1, len(c.Endpoints))
	}
	claimed := s.sends != nil && s.sends(orders)
	return s.update(ctx, "create tasks", func(tx *tx) error {
		var tasks, responses [][]any
		tx.commit = Commit{Due: !claimed}
		for _, c := range list {
			c.row = c.NewTask.row(c.id, tx.now)
			values, err := c.row.newValues(c.Fingerprint, tx.now, claimed)
			if err != nil {
				return err
			}
			tasks = append(tasks, values)
			responses = append(responses, c.row.newResponses(tx.now, claimed)...)
			tx.commit.Tasks = append(tx.commit.Tasks, c.id)
			if claimed {
				tx.commit.Claims = append(tx.commit.Claims, s.claims(c.row, tx.now)...)
			}
		}
		if err := tx.insertRows(ctx, "tasks", words(newTask), "", tasks); err != nil {
			return err
		}
		return tx.insertRows(ctx, "responses", words(newResponse), "", responses)
	})
}

// claims are those of all orders of a new task.
func (s *Store) claims(t *taskRow, now micros) []Claim {
	names := t.Endpoints
	if t.broadcast {
		names = []string{""}
	}
	claims := make([]Claim, len(names))
	for i, name := range names {
		c := Claim{TaskID: t.ID, Endpoint: name, Attempt: t.attempt, held: now.add(ClaimHold)}
		c.Order = s.order(t, c, now)
		claims[i] = c
	}
	return claims
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
		row.closesAt = row.deadline()
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

// newValues are the columns of a new task in the order of newTask.
func (t *taskRow) newValues(fingerprint [32]byte, now micros, claimed bool) ([]any, error) {
	counts, err := json.Marshal(t.Counts)
	if err != nil {
		return nil, fmt.Errorf("write the counts: %w", err)
	}
	var endpoints any
	if !t.broadcast {
		b, err := json.Marshal(t.Endpoints)
		if err != nil {
			return nil, fmt.Errorf("write the endpoints: %w", err)
		}
		endpoints = string(b)
	}
	if t.broadcast {
		t.nextSendAt, t.tries = firstSend(now, claimed)
	}
	return []any{
		t.ID, t.Type, t.Identifier, string(t.Status), t.Reason, string(counts), t.attempt,
		t.ReceiveTimeout.D().Microseconds(), t.deadline(), t.Timeout.D().Microseconds(),
		now, microsAt(t.FinishedAt), nil, "", t.broadcast, false, t.closesAt,
		t.nextSendAt, t.tries, nil, 0, t.Version, []byte(t.Payload), endpoints,
		fingerprint[:], "",
	}, nil
}

// newResponses are the columns of a new task's responses in the order of newResponse.
func (t *taskRow) newResponses(now micros, claimed bool) [][]any {
	rows := make([][]any, len(t.Endpoints))
	at, tries := firstSend(now, claimed)
	for i, name := range t.Endpoints {
		rows[i] = []any{
			t.ID, name, string(tasker.Pending), t.attempt, 0, "", "", false, false,
			0, false, t.deadline(), at, tries, 0, t.Version,
		}
	}
	return rows
}

// firstSend is when a new order is due and how often it was claimed.
func firstSend(now micros, claimed bool) (micros, int) {
	if claimed {
		return now.add(ClaimHold), 1
	}
	return now, 0
}
