package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// AttemptKey identifies one attempt of a task on an endpoint.
type AttemptKey struct {
	TaskID   string
	Endpoint string
	Attempt  int
}

// Claim is a due order that a process holds for ClaimHold.
type Claim struct {
	Order tasker.Order
	// AttemptKey identifies the row. Its Endpoint is empty for a broadcast.
	AttemptKey
	// Cancel reports whether this is the row's cancel, not its assignment.
	Cancel bool
	// Tries is how often this order was claimed before.
	Tries int

	// heldUntil is when the row is due again, as the claim wrote it. Zero matches any.
	heldUntil sqldb.Micros
}

func (c Claim) key() responseKey { return responseKey{c.TaskID, c.Endpoint} }

// ClaimHold is how long a claim keeps a row from being claimed again. It is well
// below the usual receive timeout of 30 s, so that another control plane can still send
// the orders of one that died, and above the time that a busy broker takes to accept a
// full outbox.
const ClaimHold = 20 * time.Second

// Unsent is a claim whose order could not be sent.
type Unsent struct {
	Claim
	// Reason is human-readable: "unroutable", "offline since 2026-01-02T03:04:05Z".
	Reason string
	// After is the delay before the next try.
	After time.Duration
	// MaybeSent means that the order may have arrived all the same.
	MaybeSent bool
}

// maxClaimBytes bounds the payloads that one ClaimDue reads.
const maxClaimBytes = 32 << 20

// Outbox holds the orders that are due to be sent.
type Outbox struct {
	db     *database
	orders orderBuilder
	writer *batchWriter
}

// ClaimDue returns up to limit due orders, oldest first, cancels before assignments,
// and holds each of them for ClaimHold.
func (o *Outbox) ClaimDue(ctx context.Context, limit int) ([]Claim, error) {
	var claims []Claim
	err := o.db.update(ctx, "claim orders", func(tx *tx) error {
		claims = nil
		tasks := claimedTasks{tx: tx, rows: map[string]*taskRow{}}
		for _, q := range dueQueues() {
			if len(claims) >= limit || tasks.isFull() {
				break
			}
			due, err := tasks.claim(ctx, q, limit-len(claims))
			if err != nil {
				return err
			}
			for _, c := range due {
				c.Order = o.orders.order(tasks.rows[c.TaskID], c, tx.Now)
				claims = append(claims, c)
			}
		}
		return nil
	})
	return claims, err
}

// claimedTasks are the tasks of claims, up to maxClaimBytes of payloads.
type claimedTasks struct {
	*tx
	rows  map[string]*taskRow
	bytes int
}

func (t *claimedTasks) isFull() bool { return t.bytes > maxClaimBytes }

// claim claims up to limit due orders of a queue and reads their tasks. When the payloads
// read so far exceed maxClaimBytes, the remaining orders stay due.
func (t *claimedTasks) claim(ctx context.Context, q dueQueue, limit int) ([]Claim, error) {
	due, err := q.lockDue(ctx, t.tx, limit)
	if err != nil || len(due) == 0 {
		return nil, err
	}
	if err := t.load(ctx, due, q.cancel); err != nil {
		return nil, err
	}
	due = slices.DeleteFunc(due, func(c Claim) bool { return t.rows[c.TaskID] == nil })
	return due, q.hold(ctx, t.tx, due)
}

// load reads the tasks of the claims until maxClaimBytes is exceeded; a cancel needs no
// payload.
func (t *claimedTasks) load(ctx context.Context, claims []Claim, cancel bool) error {
	columns := taskBodyColumns
	if cancel {
		columns = taskColumns
	}
	var ids []string
	for _, c := range claims {
		if row := t.rows[c.TaskID]; row == nil || (!cancel && row.Payload == nil) {
			ids = append(ids, c.TaskID)
		}
	}
	slices.Sort(ids)
	// A few at a time: each may have a megabyte.
	for ids := range slices.Chunk(slices.Compact(ids), 16) {
		if t.isFull() {
			return nil
		}
		rows, err := columns.SelectIn(ctx, &t.Conn, "FROM tasks WHERE id", ids, "")
		if err != nil {
			return fmt.Errorf("read the tasks: %w", err)
		}
		for _, row := range rows {
			t.rows[row.ID] = row
			t.bytes += len(row.Payload)
		}
	}
	return nil
}

// ReleaseClaims makes all claimed orders due at once, and those whose send failed a short
// time ago. A process calls it when it starts: the process that claimed them is dead, or
// it is another control plane, whose orders are then sent twice, which is allowed.
func (o *Outbox) ReleaseClaims(ctx context.Context) error {
	return o.db.update(ctx, "release claims", func(tx *tx) error {
		for _, q := range dueQueues() {
			if err := q.release(ctx, tx); err != nil {
				return err
			}
		}
		tx.commit.Due = true
		return nil
	})
}

// MarkSent moves responses from pending to sent and ends their claims. It changes
// nothing if a report has done so before.
func (o *Outbox) MarkSent(ctx context.Context, claims []Claim) error {
	return o.writer.writeDeliveries(ctx, sentDeliveries(claims))
}

// MarkUnsent keeps responses pending, with the reason, and makes them due again after
// the delay.
func (o *Outbox) MarkUnsent(ctx context.Context, unsent []Unsent) error {
	deliveries := make([]delivery, len(unsent))
	for i, u := range unsent {
		deliveries[i].Unsent = u
	}
	return o.writer.writeDeliveries(ctx, deliveries)
}
