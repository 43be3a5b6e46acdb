package agent

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// receiver handles the orders of the control plane.
type receiver struct {
	*shared
	scheduler *scheduler
	performer *performer
	reporter  *reporter
	// logged is when an unsigned order of a kind was last logged, as time since boot. The
	// registry's mutex guards it.
	logged map[string]time.Duration
}

// receive handles one delivery of orders. The link acknowledges the delivery when
// receive returns nil, and delivers it again after an error. Over HTTP there is no
// acknowledgement: the control plane sends an order again if the next hello does not list it.
// An empty delivery means that the link has connected.
func (r *receiver) receive(ctx context.Context, orders []tasker.Order) error {
	if len(orders) == 0 {
		r.reporter.beginSession()
		return nil
	}
	r.retireKeys()
	r.learnKeys(orders)
	signed, unsigned := splitBySignature(orders, r.keys.accepted())
	// The time is set first. Then assignments in the same delivery need not be held.
	for _, o := range signed {
		if o.Welcome != nil && r.isAddressee(o) && o.Version <= tasker.MaxWireVersion {
			r.acceptWelcome(*o.Welcome)
		}
	}
	r.retireKeys()
	b := &batch{receiver: r, outcomes: map[string]int{}}
	for _, o := range signed {
		b.add(o)
	}
	if err := r.opts.Journal.Accept(b.records, b.tombstones); err != nil {
		b.release()
		r.opts.Log.Error("cannot record orders; they are not acknowledged", "orders", len(signed), "error", err)
		r.reporter.setProblem(err)
		return err
	}
	if len(b.records)+len(b.tombstones) > 0 {
		r.reporter.setProblem(nil)
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

// acceptWelcome sets the clock from the first welcome of the session. After a long delay the
// time is too uncertain, and a new session requests it again.
func (r *receiver) acceptWelcome(w tasker.Welcome) {
	delay, first := r.reporter.welcome(w)
	if !first || r.clock.set(w.Now, delay) {
		return
	}
	r.opts.Log.Warn("the welcome was delayed for long; requesting the control plane's time again", "delay", delay)
	r.reporter.beginSession()
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

// refusedSignature is the reason of a refused order, as a metric label.
const refusedSignature = "signature"

// refusalLogInterval limits the log: a sender of unsigned orders can send many.
const refusalLogInterval = time.Minute

// learnKeys accepts the keys that welcomes introduce. An agent that was offline while the
// keys changed learns them from the first welcome, which may be signed with one of them.
func (r *receiver) learnKeys(orders []tasker.Order) {
	for _, o := range orders {
		if o.Welcome == nil || !r.isAddressee(o) {
			continue
		}
		if keys := r.keys.learn(o.Welcome.Keys); keys != nil {
			r.opts.Log.Info("the control plane has introduced a signing key", "key", r.keys.newest(), "accepted", len(keys))
			r.storeKeys(keys)
		}
	}
}

// retireKeys stops to accept keys that have retired by the control plane's clock.
func (r *receiver) retireKeys() {
	now, known := r.clock.now()
	if !known {
		return
	}
	if keys := r.keys.retire(now); keys != nil {
		r.opts.Log.Info("a signing key has retired", "newest", r.keys.newest(), "accepted", len(keys))
		r.storeKeys(keys)
	}
}

func (r *receiver) storeKeys(keys []ed25519.PublicKey) {
	if r.opts.StoreKeys == nil {
		return
	}
	if err := r.opts.StoreKeys(keys); err != nil {
		r.opts.Log.Error("cannot store the control plane's keys; they are learned again after a restart", "error", err)
	}
}

// splitBySignature separates the orders that are signed with one of the keys from the
// others. Without keys, every order passes.
func splitBySignature(orders []tasker.Order, keys []ed25519.PublicKey) (signed, unsigned []tasker.Order) {
	if len(keys) == 0 {
		return orders, nil
	}
	signed = make([]tasker.Order, 0, len(orders))
	for _, o := range orders {
		if o.Verify(keys) == nil {
			signed = append(signed, o)
		} else {
			unsigned = append(unsigned, o)
		}
	}
	return signed, unsigned
}

// refuse counts unsigned orders, and logs one of each kind per refusalLogInterval. An
// order with the signature of a retired key was on its way when the key retired: the
// hello of a new session requests it again, with another signature.
func (r *receiver) refuse(unsigned []tasker.Order) {
	for _, o := range unsigned {
		r.opts.Metrics.countRefused(refusedSignature)
		if r.keys.isRetired(o) {
			if r.clock.startResync() {
				r.opts.Log.Info("order with the signature of a retired key ignored; requesting it again", "type", o.Type)
				r.reporter.beginSession()
			}
			continue
		}
		kind, taskID := describe(o)
		if !r.startRefusalLog(kind) {
			continue
		}
		r.opts.Log.Error("order refused: it is not signed by the control plane at which this agent has enrolled",
			"kind", kind, "task", taskID, "type", o.Type,
			"help", "if that control plane was set up again, enrol again; if not, another party sends orders")
	}
}

// startRefusalLog reports whether an unsigned order of a kind should be logged, and
// starts the interval in which no other should.
func (r *receiver) startRefusalLog(kind string) bool {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	now := r.opts.Clock()
	if last, ok := r.logged[kind]; ok && now-last < refusalLogInterval {
		return false
	}
	r.logged[kind] = now
	return true
}
