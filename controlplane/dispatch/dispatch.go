// Package dispatch sends due orders to the agents. A Dispatcher claims them in the
// outbox, or stores new tasks as claimed, hands the orders to the transport and records
// which were sent. A claim that dies with its process becomes due again, so an order may
// be sent twice and is never lost.
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Outbox is the part of the store that holds the orders.
type Outbox interface {
	CreateTask(ctx context.Context, t store.NewTask) (tasker.Task, bool, error)
	CreateClaimed(ctx context.Context, t store.NewTask) (tasker.Task, bool, []store.Claim, error)
	ClaimDue(ctx context.Context, limit int) ([]store.Claim, error)
	MarkSent(ctx context.Context, claims []store.Claim) error
	MarkUnsent(ctx context.Context, unsent []store.Unsent) error
}

// Sender is the sending half of a transport.Hub.
type Sender interface {
	Send(ctx context.Context, orders ...tasker.Order) error
}

// Options configure New.
type Options struct {
	Outbox  Outbox
	Hub     Sender
	Log     *slog.Logger
	Metrics *Metrics
	// Batch is the maximum number of orders of one Send; 500 when zero.
	Batch int
	// Poll is how often the outbox is read without a wake-up, for orders of other control
	// planes and for back-offs that end; 500 ms when zero.
	Poll time.Duration
	// ReportWait is how long a sent order waits for its first report before it is recorded
	// as sent. As long as reports arrive, it waits up to eight times as long.
	ReportWait time.Duration
}

// Dispatcher moves orders from the outbox to the transport.
type Dispatcher struct {
	opts     Options
	loop     *backoff.Loop
	queue    queue
	inFlight *inFlight
	recorder *recorder

	// isDue: the outbox has a due order. Run reads it anyway every Poll, last at readAt.
	isDue  atomic.Bool
	readAt time.Time
	// nextRound is when the next round begins, unless its batch is full.
	nextRound time.Time
	// failing: the last round could not read or write the outbox.
	failing atomic.Bool
}

// minRoundInterval spaces rounds so that a stream of orders goes out in batches, which
// cost the broker less; a single order goes at once. A busy broker takes long for a
// round and is given twice that time, up to maxRoundInterval.
const (
	minRoundInterval = 10 * time.Millisecond
	maxRoundInterval = 100 * time.Millisecond
)

// New makes a Dispatcher; Run starts it.
func New(opts Options) *Dispatcher {
	if opts.Batch == 0 {
		opts.Batch = 500
	}
	if opts.Poll == 0 {
		opts.Poll = 500 * time.Millisecond
	}
	d := &Dispatcher{opts: opts, inFlight: newInFlight(opts.ReportWait)}
	d.recorder = newRecorder(opts.Outbox, d.inFlight)
	d.loop = backoff.NewLoop(backoff.LoopOptions{
		Interval: opts.Poll, Log: opts.Log,
		Failing: "orders cannot be dispatched; trying again", Recovered: "orders are dispatched again",
	})
	return d
}

// CreateTask stores a task as the store does. If Run has room for the task's orders,
// they are stored as claimed and sent without a query for due orders.
func (d *Dispatcher) CreateTask(ctx context.Context, t store.NewTask) (tasker.Task, bool, error) {
	if d.failing.Load() || !d.queue.hasRoom(max(1, len(t.Endpoints))) {
		return d.opts.Outbox.CreateTask(ctx, t)
	}
	task, created, claims, err := d.opts.Outbox.CreateClaimed(ctx, t)
	if len(claims) > 0 {
		d.queue.add(claims)
		d.loop.Wake()
	}
	return task, created, err
}

// Wake makes Run read the outbox at once. It never blocks.
func (d *Dispatcher) Wake() {
	d.isDue.Store(true)
	d.loop.Wake()
}

// Reported ends the wait for reports on these attempts. It never blocks.
func (d *Dispatcher) Reported(attempts []store.AttemptKey) { d.inFlight.reported(attempts) }

// IsFailing reports whether orders wait because the outbox cannot be read or written.
func (d *Dispatcher) IsFailing() bool { return d.failing.Load() }

// IsAlive reports whether Run starts a round before ctx is done.
func (d *Dispatcher) IsAlive(ctx context.Context) bool { return d.loop.IsAlive(ctx) }

// Run dispatches until ctx is done, and returns its error. While the database is
// unavailable it tries again. Before Run returns, it records what was sent, and makes
// the claims in its queue due again.
func (d *Dispatcher) Run(ctx context.Context) error {
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		d.recorder.run()
	}()
	defer func() {
		if claims := d.queue.close(); len(claims) > 0 {
			d.recorder.add(nil, release(claims))
		}
		d.recorder.close()
		<-recorded
	}()
	d.queue.open()
	return d.loop.Run(ctx, func(ctx context.Context) (more bool, err error) {
		d.awaitBatch(ctx)
		began := time.Now()
		more, err = d.round(ctx)
		d.nextRound = time.Time{}
		if !more {
			d.nextRound = began.Add(min(max(minRoundInterval, 2*time.Since(began)), maxRoundInterval))
		}
		d.failing.Store(err != nil)
		return more, err
	})
}

// awaitBatch waits for more orders if the queue has some, but no full batch.
func (d *Dispatcher) awaitBatch(ctx context.Context) {
	if n := d.queue.len(); 0 < n && n < d.opts.Batch {
		_ = backoff.Sleep(ctx, time.Until(d.nextRound))
	}
}

// round sends one batch. It reports whether there may be more to send.
func (d *Dispatcher) round(ctx context.Context) (more bool, err error) {
	err = d.recorder.takeError()
	claims, more, claimErr := d.nextBatch(ctx)
	err = errors.Join(err, claimErr)
	if len(claims) == 0 {
		return false, err
	}
	orders := make([]tasker.Order, len(claims))
	for i, c := range claims {
		orders[i] = c.Order
	}
	d.inFlight.add(claims)
	began := time.Now()
	sent, unsent := d.splitBySent(claims, d.opts.Hub.Send(ctx, orders...))
	d.opts.Metrics.sent(sent, unsent, time.Since(began))
	d.recorder.add(sent, unsent)
	return more, err
}

// nextBatch takes claims from the queue and, if it is time, from the outbox.
func (d *Dispatcher) nextBatch(ctx context.Context) (claims []store.Claim, more bool, err error) {
	readOutbox := d.isDue.Swap(false) || time.Since(d.readAt) >= d.opts.Poll
	limit := d.opts.Batch
	if readOutbox {
		limit = (limit + 1) / 2 // the queue must not starve the outbox
	}
	claims = d.queue.remove(limit)
	more = len(claims) == limit
	if !readOutbox {
		return claims, more, nil
	}
	d.readAt = time.Now()
	limit = d.opts.Batch - len(claims)
	due, err := d.opts.Outbox.ClaimDue(ctx, limit)
	if err != nil || len(due) == limit {
		d.isDue.Store(true)
		more = true
	}
	return append(due, claims...), more, err
}
