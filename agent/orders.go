package agent

import (
	"context"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// receiver handles the orders of the control plane.
type receiver struct {
	opts      *Options
	registry  *registry
	scheduler *scheduler
	performer *performer
	reporter  *reporter
	reports   *reportQueue
	clock     *clock
	// logged is when an unsigned order of a kind was last logged, as time since boot.
	// Only receive uses it, which the link calls once at a time.
	logged map[string]time.Duration
}

// receive handles one delivery of orders. The link acknowledges the delivery when
// receive returns nil, and delivers it again after an error. An empty delivery means
// that the link has connected.
func (r *receiver) receive(ctx context.Context, orders []tasker.Order) error {
	if len(orders) == 0 {
		r.reporter.beginSession()
		return nil
	}
	signed, unsigned := splitBySignature(orders, r.opts.Keys)
	// The time is set first. Then assignments in the same delivery need not be held.
	for _, o := range signed {
		if o.Welcome != nil && r.isAddressee(o) && o.Version <= tasker.MaxWireVersion && r.reporter.welcome(*o.Welcome) {
			r.clock.set(o.Welcome.Now)
		}
	}
	b := &batch{receiver: r, outcomes: map[string]int{}}
	for _, o := range signed {
		b.add(o)
	}
	if err := r.opts.Journal.Accept(b.records, b.tombstones); err != nil {
		b.release()
		r.opts.Log.Error("cannot record orders; they are not acknowledged", "orders", len(signed), "error", err)
		return err
	}
	b.apply(ctx)
	if b.outcomes[outcomeExpired] > 0 && r.clock.startResync() {
		// Either the assignment is late or the control plane's clock was set back. The
		// hello requests the time, and the control plane sends the assignment again if
		// it still waits for it.
		r.reporter.beginSession()
	}
	r.refuse(unsigned)
	return nil // This acknowledges the orders: the journal has them.
}

// isAddressee reports whether an order is for this agent.
func (r *receiver) isAddressee(o tasker.Order) bool {
	return o.Endpoint == r.opts.Endpoint || o.Endpoint == tasker.AllEndpoints
}

// describe returns the kind of an order and the task it is about.
func describe(o tasker.Order) (kind, taskID string) {
	switch {
	case o.Assignment != nil:
		return "assignment", o.Assignment.TaskID
	case o.Cancel != nil:
		return "cancel", o.Cancel.TaskID
	case o.Welcome != nil:
		return "welcome", ""
	}
	return "none", ""
}
