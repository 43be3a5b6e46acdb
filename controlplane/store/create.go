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
	id      string
	row     *taskRow
	rollout *rolloutRow
}

// immediate says whether all of its orders are due at once.
func (c *creation) immediate() bool {
	return c.NotBefore == nil && (c.Rollout == nil || c.Action == tasker.Plan)
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
	err = s.creations.Do(ctx, c, 1+len(t.Endpoints)+len(t.Payload)/1024)
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
		if c.immediate() {
			orders += max(1, len(c.Endpoints))
		}
	}
	claimed := s.sends != nil && orders > 0 && s.sends(orders)
	return s.update(ctx, "create tasks", func(tx *tx) error {
		tx.commit = Commit{Due: !claimed}
		return tx.insertTasks(ctx, list, claimed)
	})
}

// insertTasks inserts tasks, and what is due of them at once as claimed or not.
func (t *tx) insertTasks(ctx context.Context, list []*creation, claimed bool) error {
	var tasks, responses, rollouts [][]any
	for _, c := range list {
		claimed := claimed && c.immediate()
		c.row, c.rollout = c.NewTask.row(c.id, t.now), c.NewTask.rollout(c.id, t.now)
		if c.rollout != nil {
			values, err := c.rollout.values()
			if err != nil {
				return err
			}
			rollouts = append(rollouts, values)
			c.rollout.settle(c.row)
			c.row.Rollout = &c.rollout.Rollout
			t.commit.Rollouts = true
		}
		values, err := c.row.newValues(c.Fingerprint, t.now, claimed)
		if err != nil {
			return err
		}
		tasks = append(tasks, values)
		responses = append(responses, c.newResponses(t.now, claimed)...)
		t.commit.Tasks = append(t.commit.Tasks, c.id)
		if claimed {
			t.commit.Claims = append(t.commit.Claims, t.s.claims(c.row, t.now)...)
		}
	}
	if err := t.insertRows(ctx, "tasks", words(newTask), "", tasks); err != nil {
		return err
	}
	if err := t.insertRows(ctx, "responses", words(newResponse), "", responses); err != nil {
		return err
	}
	return t.insertRows(ctx, "rollouts", words(rolloutColumns), "", rollouts)
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

// SameTask returns the stored task of the same identifier, ErrConflict if it was
// another request, or ErrNotFound.
func (s *Store) SameTask(ctx context.Context, t NewTask) (tasker.Task, error) {
	task, _, err := s.winner(ctx, t)
	return task, err
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
			Labels: t.Labels, Action: t.Action, Undoes: t.Undoes, Callback: t.Callback,
			Counts: tasker.Counts{}, CreatedAt: now.time(), NotBefore: microsAt(t.NotBefore).at(),
			ReceiveTimeout:  tasker.Duration(t.ReceiveTimeout.Truncate(time.Microsecond)),
			ReceiveDeadline: max(now, microsAt(t.NotBefore)).add(t.ReceiveTimeout).time(),
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
	newTask = taskBody + ", fingerprint"
	// newResponse are the columns in which a stored response may differ from
	// another, and those that have no default.
	newResponse = `task_id, endpoint, status, attempt, seq, reason, error, presumed, late,
		output_bytes, output_truncated, expires_at, next_send_at, send_tries, cancel_tries, version, wave`
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
	var callback any
	if t.Callback != nil {
		b, err := json.Marshal(t.Callback)
		if err != nil {
			return nil, fmt.Errorf("write the callback: %w", err)
		}
		callback = string(b)
	}
	if t.broadcast {
		t.nextSendAt, t.tries = t.firstSend(now, claimed)
	}
	return []any{
		t.ID, t.Type, t.Identifier, string(t.Status), t.Reason, string(counts), t.attempt,
		t.ReceiveTimeout.D().Microseconds(), t.deadline(), t.Timeout.D().Microseconds(),
		now, microsAt(t.FinishedAt), nil, "", t.broadcast, false, t.closesAt,
		t.nextSendAt, t.tries, nil, 0, t.Version, t.Labels, string(t.Action), t.Undoes, microsAt(t.NotBefore), t.pacing, t.paused, callback,
		[]byte(t.Payload), endpoints,
		fingerprint[:],
	}, nil
}

// newResponses are the columns of a new task's responses in the order of
// newResponse. Those of waves, which have not begun, are neither due nor expected.
func (c *creation) newResponses(now micros, claimed bool) [][]any {
	t := c.row
	rows := make([][]any, len(t.Endpoints))
	at, tries := t.firstSend(now, claimed)
	deadline := t.deadline()
	numbers := make([]int, len(t.Endpoints))
	if c.rollout != nil {
		numbers = c.rollout.numbers(len(t.Endpoints))
		if t.pacing == pacedNow {
			at, deadline = 0, 0
		}
	}
	for i, name := range t.Endpoints {
		rows[i] = []any{
			t.ID, name, string(tasker.Pending), t.attempt, 0, "", "", false, false,
			0, false, deadline, at, tries, 0, t.Version, numbers[i],
		}
	}
	return rows
}

// firstSend is when a new task's orders are due and how often they were claimed.
func (t *taskRow) firstSend(now micros, claimed bool) (micros, int) {
	if claimed {
		return now.add(ClaimHold), 1
	}
	return max(now, microsAt(t.NotBefore)), 0
}
