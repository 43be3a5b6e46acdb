// Package dispatch hands due orders to the transport: it claims them in the
// store, sends them and writes down for which custody has passed. A claim that
// dies with its process is due again by itself, so an order may be sent twice
// and is never forgotten.
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
	NextDue(ctx context.Context) (time.Time, error)
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
	// other control planes have stored and for back-offs that end; 500 ms when zero.
	Poll time.Duration
}

// Dispatcher moves orders from the outbox to the hub.
type Dispatcher struct {
	opts Options
	wake chan struct{}
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

// New makes a Dispatcher; Run starts it.
func New(opts Options) *Dispatcher {
	if opts.Batch == 0 {
		opts.Batch = 500
	}
	if opts.Poll == 0 {
		opts.Poll = 500 * time.Millisecond
	}
	return &Dispatcher{opts: opts, wake: make(chan struct{}, 1), probe: make(chan struct{})}
}

// Wake makes Run look at the outbox at once. It never blocks.
func (d *Dispatcher) Wake() {
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
// away is waited out.
func (d *Dispatcher) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		n, err := d.round(ctx)
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
		if n == d.opts.Batch && err == nil {
			continue // there may be more
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wake: // somebody could write, so the database is there
		case <-d.probe:
		case <-timer.C:
		}
	}
}

// round claims one batch, sends it and marks each order. It returns how many it
// claimed.
func (d *Dispatcher) round(ctx context.Context) (int, error) {
	claims, err := d.opts.Outbox.ClaimDue(ctx, d.opts.Batch)
	if err != nil || len(claims) == 0 {
		return 0, err
	}
	orders := make([]tasker.Order, len(claims))
	for i, c := range claims {
		orders[i] = c.Order
	}
	began := time.Now()
	sent, unsent := d.sort(claims, d.opts.Hub.Send(ctx, orders...))
	d.opts.Metrics.sent(sent, unsent, time.Since(began))
	// What was sent must be written down even when the process is to stop now.
	mark, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if len(sent) > 0 {
		err = d.opts.Outbox.MarkSent(mark, sent)
	}
	if len(unsent) > 0 {
		err = errors.Join(err, d.opts.Outbox.MarkUnsent(mark, unsent))
	}
	return len(claims), err
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
