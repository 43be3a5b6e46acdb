// Package collect stores the agents' reports in batches. Each batch is acknowledged
// after its commit, and agents that said hello get a welcome.
package collect

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Inbox is the part of the store that stores reports.
type Inbox interface {
	Apply(ctx context.Context, reports []tasker.Report) (store.ApplyResult, error)
	Check(ctx context.Context) error
}

// Options configure New.
type Options struct {
	Inbox   Inbox
	Hub     transport.Hub
	Log     *slog.Logger
	Metrics *Metrics
	// Reported receives the attempts that agents have reported on, Finished the tasks that
	// a batch finished. They must not block, and may be nil.
	Reported func([]store.AttemptKey)
	Finished func([]tasker.Task)
}

// Collector moves reports from the hub to the inbox.
type Collector struct {
	opts Options
	// lastLarge is when the last large batch came, in nanoseconds of Unix time.
	lastLarge atomic.Int64
	// lastRefusal is when a refused report was last logged, in nanoseconds of Unix time.
	lastRefusal atomic.Int64
	// blocked: the last batch could not be stored and will be delivered again.
	blocked atomic.Bool
}

// largeBatch is the size from which a batch is a sign that more reports wait.
const largeBatch = 50

// New makes a Collector; Run starts it.
func New(opts Options) *Collector {
	if opts.Reported == nil {
		opts.Reported = func([]store.AttemptKey) {}
	}
	if opts.Finished == nil {
		opts.Finished = func([]tasker.Task) {}
	}
	return &Collector{opts: opts}
}

// IsBlocked reports whether reports wait because they cannot be stored now.
func (c *Collector) IsBlocked() bool { return c.blocked.Load() }

// IsDrained reports whether no report waits to be stored and no large batch came for a
// second.
func (c *Collector) IsDrained() bool {
	return !c.IsBlocked() && time.Since(time.Unix(0, c.lastLarge.Load())) > time.Second
}

// Run collects until ctx is done or the hub is closed, and returns the error of
// the hub's Receive.
func (c *Collector) Run(ctx context.Context) error {
	return c.opts.Hub.Receive(ctx, c.handle)
}

// handle stores a batch. After an error the transport keeps the batch and delivers it
// again, so handle returns only errors that are temporary.
func (c *Collector) handle(ctx context.Context, reports []tasker.Report) error {
	if len(reports) == 0 {
		return nil
	}
	err := c.store(ctx, reports)
	c.blocked.Store(err != nil)
	return err
}

// store stores a batch or a part of one.
func (c *Collector) store(ctx context.Context, reports []tasker.Report) error {
	if len(reports) >= largeBatch {
		c.lastLarge.Store(time.Now().UnixNano())
	}
	began := time.Now()
	applied, err := c.opts.Inbox.Apply(ctx, reports)
	switch {
	case errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil:
		return err
	case err != nil && len(reports) > 1:
		return c.storeIndividually(ctx, reports)
	case err != nil && c.opts.Inbox.Check(ctx) != nil:
		return err
	case err != nil:
		// The database works, so this report is at fault. If it were kept, it would block
		// all others for ever.
		r := reports[0]
		c.opts.Log.Error("report cannot be stored and is dropped", "endpoint", r.Endpoint, "task", taskOf(r), "error", err)
		c.opts.Metrics.dropped()
		return nil
	}
	c.opts.Metrics.applied(reports, applied, time.Since(began))
	c.logRefused(applied.Refused)
	c.opts.Reported(applied.Reported)
	c.send(ctx, applied.Orders)
	if len(applied.Finished) > 0 {
		c.opts.Finished(applied.Finished)
	}
	return nil
}

// refusalInterval is the shortest time between two log lines about refused reports.
const refusalInterval = time.Minute

// logRefused logs the first refused report of each refusalInterval. The metric counts all.
func (c *Collector) logRefused(endpoints []string) {
	now := time.Now().UnixNano()
	last := c.lastRefusal.Load()
	if len(endpoints) == 0 || last != 0 && now-last < int64(refusalInterval) || !c.lastRefusal.CompareAndSwap(last, now) {
		return
	}
	c.opts.Log.Warn("report refused: another agent is connected under the name of the endpoint, and the endpoint is not enrolled; enrol it, or give each server its own name",
		"endpoint", endpoints[0])
}

// storeIndividually finds the report that keeps a batch from being stored.
func (c *Collector) storeIndividually(ctx context.Context, reports []tasker.Report) error {
	for i := range reports {
		if err := c.store(ctx, reports[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// send sends the orders that respond to reports. They are not kept if that fails: an
// agent repeats its hello until it gets a welcome.
func (c *Collector) send(ctx context.Context, orders []tasker.Order) {
	if len(orders) == 0 {
		return
	}
	if err := c.opts.Hub.Send(ctx, orders...); err != nil && ctx.Err() == nil {
		c.opts.Log.Warn("welcomes not sent; the agents will repeat their hellos", "orders", len(orders), "error", err)
	}
}

func taskOf(r tasker.Report) string {
	if r.Update == nil {
		return ""
	}
	return r.Update.TaskID
}
