// Package collect brings the agents' reports into the store, in batches, each
// acknowledged after its commit, and answers those that want an answer.
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

// Sink is the part of the store that takes reports.
type Sink interface {
	Apply(ctx context.Context, reports []tasker.Report) (store.ApplyResult, error)
	Check(ctx context.Context) error
}

// Options say what a Collector works with.
type Options struct {
	Sink    Sink
	Hub     transport.Hub
	Log     *slog.Logger
	Metrics *Metrics
	// Finished is told the tasks that a batch ended; it must not block.
	Finished func([]tasker.Task)
}

// Collector moves reports from the hub to the sink.
type Collector struct {
	opts Options
	// busy is the unix time in nanoseconds of the last batch that was so large
	// that more are probably waiting.
	busy atomic.Int64
	// held: the last batch could not be stored and waits to be handed over again.
	held atomic.Bool
}

// large is the size from which a batch is taken as a sign of a backlog.
const large = 50

// New makes a Collector; Run starts it.
func New(opts Options) *Collector { return &Collector{opts: opts} }

// Held says whether reports wait because they cannot be stored now.
func (c *Collector) Held() bool { return c.held.Load() }

// Drained says whether no report waits to be stored and no backlog of reports
// was seen for a second.
func (c *Collector) Drained() bool {
	return !c.Held() && time.Since(time.Unix(0, c.busy.Load())) > time.Second
}

// Run collects until ctx is done or the hub is closed, and returns the error of
// the hub's Receive.
func (c *Collector) Run(ctx context.Context) error {
	return c.opts.Hub.Receive(ctx, c.handle)
}

// handle stores a batch. Its error makes the transport hold the batch and hand
// it over again, so it is returned only for what passes by itself.
func (c *Collector) handle(ctx context.Context, reports []tasker.Report) error {
	if len(reports) == 0 {
		return nil
	}
	err := c.store(ctx, reports)
	c.held.Store(err != nil)
	return err
}

// store is handle for one batch or a part of it.
func (c *Collector) store(ctx context.Context, reports []tasker.Report) error {
	if len(reports) >= large {
		c.busy.Store(time.Now().UnixNano())
	}
	began := time.Now()
	applied, err := c.opts.Sink.Apply(ctx, reports)
	switch {
	case errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil:
		return err
	case err != nil && len(reports) > 1:
		return c.oneByOne(ctx, reports)
	case err != nil && c.opts.Sink.Check(ctx) != nil:
		return err
	case err != nil:
		// The database is well, so this report is at fault, and holding it would
		// hold up all others for ever.
		r := reports[0]
		c.opts.Log.Error("report cannot be stored and is dropped", "endpoint", r.Endpoint, "task", taskOf(r), "error", err)
		c.opts.Metrics.dropped()
		return nil
	}
	c.opts.Metrics.applied(reports, applied, time.Since(began))
	c.answer(ctx, applied.Orders)
	if c.opts.Finished != nil && len(applied.Finished) > 0 {
		c.opts.Finished(applied.Finished)
	}
	return nil
}

// oneByOne finds the report for which a batch cannot be stored.
func (c *Collector) oneByOne(ctx context.Context, reports []tasker.Report) error {
	for i := range reports {
		if err := c.store(ctx, reports[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// answer sends what the reports asked for. An answer that does not pass is not
// kept: the agent repeats its hello until it is answered.
func (c *Collector) answer(ctx context.Context, orders []tasker.Order) {
	if len(orders) == 0 {
		return
	}
	if err := c.opts.Hub.Send(ctx, orders...); err != nil && ctx.Err() == nil {
		c.opts.Log.Warn("answers to hellos not sent; the agents will ask again", "orders", len(orders), "error", err)
	}
}

func taskOf(r tasker.Report) string {
	if r.Update == nil {
		return ""
	}
	return r.Update.TaskID
}
