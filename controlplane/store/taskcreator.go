package store

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
	"github.com/MatthiasWiesner/tasker/internal/groupcommit"
)

// NewTask is a validated and authorised request.
type NewTask struct {
	Identifier string
	Type       string
	Payload    []byte
	// Endpoints is nil for a broadcast.
	Endpoints      []string
	ReceiveTimeout time.Duration
	Timeout        time.Duration
	// Labels is the selector that found some of the endpoints, for display.
	Labels string
	// Action and Undoes are as in tasker.Task.
	Action tasker.Action
	Undoes string
	// NotBefore is when the task begins; nil is at once.
	NotBefore *time.Time
	// Rollout describes the waves, which follow the order of Endpoints; nil sends
	// everything at once. With a rollout Endpoints must not be nil.
	Rollout *tasker.RolloutSpec
	// Callback is the receiver of the task's events; nil is none.
	Callback *tasker.Callback
	// Fingerprint is the SHA-256 of the canonical request.
	Fingerprint [32]byte
}

// isImmediate reports whether all orders of the task are due at once.
func (t *NewTask) isImmediate() bool {
	return t.NotBefore == nil && (t.Rollout == nil || t.Action == tasker.DryRun)
}

// maxCreateWeight bounds what is created in one transaction: a task weighs one, plus
// one for each endpoint and one for each KiB of its payload.
const maxCreateWeight = 20_000

// TaskCreator stores new tasks.
type TaskCreator struct {
	db      *database
	orders  orderBuilder
	batches *groupcommit.Group[*newTaskRows]
}

func newTaskCreator(db *database, orders orderBuilder) *TaskCreator {
	c := &TaskCreator{db: db, orders: orders}
	c.batches = groupcommit.New(maxCreateWeight, retryIndividually, c.create)
	return c
}

// retryIndividually reports whether a failed batch should be retried item by item:
// one of the items may be at fault.
func retryIndividually(err error) bool { return !sqldb.IsTransient(err) }

// CreateTask stores the task and its responses in one transaction, which concurrent
// calls share. If the identifier exists, CreateTask returns the stored task and false
// for the same fingerprint, else ErrConflict.
func (c *TaskCreator) CreateTask(ctx context.Context, t NewTask) (tasker.Task, bool, error) {
	task, created, _, err := c.store(ctx, t, false)
	return task, created, err
}

// CreateClaimed is CreateTask for a process that sends the new orders itself. Orders that
// are due at once are stored as claimed and returned. Like those of every claim, they
// become due again if the process dies before it has sent them.
func (c *TaskCreator) CreateClaimed(ctx context.Context, t NewTask) (tasker.Task, bool, []Claim, error) {
	return c.store(ctx, t, true)
}

func (c *TaskCreator) store(ctx context.Context, t NewTask, claim bool) (tasker.Task, bool, []Claim, error) {
	if t.Endpoints != nil && len(t.Endpoints) == 0 {
		return tasker.Task{}, false, nil, errors.New("create a task: endpoints is empty; leave it out, or name at least one endpoint")
	}
	n, err := newRows(t)
	if err != nil {
		return tasker.Task{}, false, nil, fmt.Errorf("create a task: %w", err)
	}
	n.claimed = claim && t.isImmediate()
	err = c.batches.Do(ctx, n, 1+len(t.Endpoints)+len(t.Payload)/1024)
	switch {
	case err == nil:
		return n.task.Task, true, n.claims, nil
	case !c.db.IsDuplicate(err):
		return tasker.Task{}, false, nil, err
	}
	// The transaction has ended, so this sees the task that was stored first.
	stored, err := c.SameTask(ctx, t)
	return stored, false, nil, err
}

// create stores tasks.
func (c *TaskCreator) create(ctx context.Context, list []*newTaskRows) error {
	return c.db.update(ctx, "create tasks", func(tx *tx) error {
		if err := insertTasks(ctx, tx, list); err != nil {
			return err
		}
		for _, n := range list {
			if n.claimed {
				n.claims = c.orders.newClaims(n.task, tx.Now)
			} else {
				tx.commit.Due = true
			}
		}
		return nil
	})
}

// SameTask returns the stored task of the same identifier, ErrConflict if it was
// another request, or ErrNotFound.
func (c *TaskCreator) SameTask(ctx context.Context, t NewTask) (tasker.Task, error) {
	const action = "read the task of the same identifier"
	var id string
	var fingerprint []byte
	q := c.db.Reader()
	err := q.QueryRow(ctx, "SELECT id, fingerprint FROM tasks WHERE type = ? AND identifier = ?", []any{t.Type, t.Identifier}, &id, &fingerprint)
	if err != nil {
		return tasker.Task{}, c.db.Wrap(action, err)
	}
	if subtle.ConstantTimeCompare(fingerprint, t.Fingerprint[:]) != 1 {
		return tasker.Task{}, ErrConflict
	}
	task, err := readTask(ctx, q, id)
	return task, c.db.Wrap(action, err)
}
