// Package dispatch hands due orders to the transport: it claims them in the
// store, or gets the claims of those that this process has just stored, sends
// them and writes down for which custody has passed. A claim that dies with its
// process is due again by itself, so an order may be sent twice and is never
// forgotten.
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
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Outbox is the part of the store that holds the orders.
type Outbox interface {
	ClaimDue(ctx context.Context, limit int) ([]store.Claim, error)
	MarkSent(ctx context.Context, claims []store.Claim) error
	MarkUnsent(ctx context.Context, unsent []store.Unsent) error
}

// Sender is the sending half of a transport.Hub.
type Sender interface {
	Send(ctx context.Context, orders ...tasker.Order) error
}

// Options say what a Dispatcher works with.
type Options struct {
	Outbox  Outbox
	Hub     Sender
	Log     *slog.Logger
	Metrics *Metrics
	// Batch is the most orders of one Send; 500 when zero.
	Batch int
	// Poll is how often the outbox is looked at without being woken, for what
	// other control planes have stored and for back-offs that end, also while
	// orders are handed over all the time; 500 ms when zero.
	Poll time.Duration
}

// Dispatcher moves orders from the outbox to the hub.
type Dispatcher struct {
	opts   Options
	handed handed
	marker *marker
	// wake says that orders are due in the outbox or were handed over.
	wake chan struct{}
	// due: the outbox has something due. Run looks at it anyway every Poll, and did
	// so last at looked.
	due    atomic.Bool
	looked time.Time
	// probe is received from when the loop comes round.
	probe chan struct{}
	// failing: the last round could not read or write the outbox.
	failing atomic.Bool
}

// retry spreads the tries of one order that its endpoint does not take.
func retry() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 30 * time.Second}
}

// resume spreads the tries while the control plane itself is cut off, from its
// database or its broker. Its cap is well below the time for which deadline
// excuses an outage, so that what waited for the end of one is sent in time.
func resume() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 5 * time.Second}
}

// pace is the least time from the begin of one round to that of the next while a
// batch is not full: what is alone goes at once, and a stream goes in batches,
// which cost the broker less. A broker that is busy takes long for a round, and is
// given as much time without, up to slowest.
const (
	pace    = 10 * time.Millisecond
	slowest = 100 * time.Millisecond
)

// New makes a Dispatcher; Run starts it.
func New(opts Options) *Dispatcher {
	if opts.Batch == 0 {
		opts.Batch = 500
	}
	if opts.Poll == 0 {
		opts.Poll = 500 * time.Millisecond
	}
	return &Dispatcher{
		opts: opts, marker: newMarker(opts.Outbox), wake: make(chan struct{}, 1), probe: make(chan struct{}),
	}
}

// Takes says whether Run would take the claims of so many new orders from Hand:
// not if it does not run, is cut off or has enough to do. It never blocks.
func (d *Dispatcher) Takes(orders int) bool {
	return !d.failing.Load() && d.handed.takes(orders)
}

// Hand has Run send claims that this process holds. It never blocks.
func (d *Dispatcher) Hand(claims []store.Claim) {
	d.handed.add(claims)
	d.nudge()
}

// Wake makes Run look at the outbox at once. It never blocks.
func (d *Dispatcher) Wake() {
	d.due.Store(true)
	d.nudge()
}

func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Failing says whether orders wait because the outbox cannot be read or written.
func (d *Dispatcher) Failing() bool { return d.failing.Load() }

// Alive says whether Run comes round before ctx is done.
func (d *Dispatcher) Alive(ctx context.Context) bool {
	select {
	case d.probe <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run dispatches until ctx is done, and returns its error. A database that is
// away is waited out. Before it returns, what was sent is written down, and what
// was handed over and not sent is given back.
func (d *Dispatcher) Run(ctx context.Context) error {
	marking := make(chan struct{})
	go func() {
		defer close(marking)
		d.marker.run()
	}()
	defer func() {
		if left := d.handed.close(); len(left) > 0 {
			d.marker.add(nil, giveBack(left))
		}
		d.marker.close()
		<-marking
	}()
	d.handed.open()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		began := time.Now()
		more, err := d.round(ctx)
		again := min(max(pace, 2*time.Since(began)), slowest)
		pause := d.opts.Poll
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if failures == 0 {
				d.opts.Log.Warn("orders cannot be dispatched; trying again", "error", err)
			}
			pause = resume().Wait(failures)
			failures++
		case failures > 0:
			d.opts.Log.Info("orders are dispatched again")
			failures = 0
		}
		d.failing.Store(err != nil)
		if more && err == nil {
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wake: // somebody could write, so the database is there
			if n := d.handed.count(); 0 < n && n < d.opts.Batch {
				_ = backoff.Sleep(ctx, again-time.Since(began))
			}
		case <-d.probe:
		case <-timer.C:
		}
	}
}

// round sends one batch and has it marked. It says whether there may be more.
func (d *Dispatcher) round(ctx context.Context) (more bool, err error) {
	err = d.marker.failed()
	look := d.due.Swap(false) || time.Since(d.looked) >= d.opts.Poll
	limit := d.opts.Batch
	if look {
		limit = (limit + 1) / 2 // what is handed over must not hide what is due
	}
	claims := d.handed.take(limit)
	more = len(claims) == limit
	if look {
		d.looked = time.Now()
		room := d.opts.Batch - len(claims)
		due, claimErr := d.opts.Outbox.ClaimDue(ctx, room)
		if claimErr != nil || len(due) == room {
			d.due.Store(true)
			more = true
		}
		err = errors.Join(err, claimErr)
		claims = append(due, claims...)
	}
	if len(claims) == 0 {
		return false, err
	}
	orders := make([]tasker.Order, len(claims))
	for i, c := range claims {
		orders[i] = c.Order
	}
	began := time.Now()
	sent, unsent := d.sort(claims, d.opts.Hub.Send(ctx, orders...))
	d.opts.Metrics.sent(sent, unsent, time.Since(began))
	d.marker.add(sent, unsent)
	return more, err
}

// sort separates the claims for which custody has passed from the others.
func (d *Dispatcher) sort(claims []store.Claim, err error) ([]store.Claim, []store.Unsent) {
	if err == nil {
		return claims, nil
	}
	var partly *transport.SendError
	all := !errors.As(err, &partly)
	var sent []store.Claim
	var unsent []store.Unsent
	for i, c := range claims {
		why := err
		if !all {
			if why = partly.Failed[i]; why == nil {
				sent = append(sent, c)
				continue
			}
		}
		d.opts.Log.Debug("order not sent", "task", c.TaskID, "type", c.Order.Type, "endpoint", c.Order.Endpoint,
			"tries", c.Tries+1, "error", why)
		reason, again := verdict(why)
		unsent = append(unsent, store.Unsent{Claim: c, Reason: reason, After: again.Wait(c.Tries)})
	}
	return sent, unsent
}

// verdict says for a person, in the words of the API, why an order did not pass,
// and how its tries are spread.
func verdict(err error) (string, backoff.Policy) {
	switch {
	case errors.Is(err, transport.ErrOffline):
		return "offline", retry()
	case errors.Is(err, transport.ErrUnroutable):
		return "unroutable: no agent of this name is subscribed to the task type; it has not connected yet, or has neither handler nor script for it", retry()
	}
	return err.Error(), resume()
}
