package agent

import (
	"crypto/ed25519"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// refusedSignature is the reason of a refused order, as a metric label.
const refusedSignature = "signature"

// refusalLogInterval limits the log: a sender of unsigned orders can send many.
const refusalLogInterval = time.Minute

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

// refuse counts unsigned orders, and logs one of each kind per refusalLogInterval.
func (r *receiver) refuse(unsigned []tasker.Order) {
	for _, o := range unsigned {
		r.opts.Metrics.countRefused(refusedSignature)
		kind, taskID := describe(o)
		now := r.opts.Clock()
		if last, ok := r.logged[kind]; ok && now-last < refusalLogInterval {
			continue
		}
		r.logged[kind] = now
		r.opts.Log.Error("order refused: it is not signed by the control plane at which this agent has enrolled",
			"kind", kind, "task", taskID, "type", o.Type,
			"help", "if that control plane was set up again, enrol again; if not, another party sends orders")
	}
}
