package agent

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// refusedSignature is why orders are refused, as counted.
const refusedSignature = "signature"

// sayRefusal is how often the refusal of a kind of orders is logged at most: who
// can send one can send many.
const sayRefusal = time.Minute

// genuine parts a batch of orders into those that the control plane has signed and
// the others, which are acknowledged and no more. An agent without keys takes all.
func (a *Agent) genuine(batch []tasker.Order) (taken, refused []tasker.Order) {
	if len(a.opts.Keys) == 0 {
		return batch, nil
	}
	taken = make([]tasker.Order, 0, len(batch))
	for _, o := range batch {
		if o.Verify(a.opts.Keys) == nil {
			taken = append(taken, o)
		} else {
			refused = append(refused, o)
		}
	}
	return taken, refused
}

// refused counts orders that were refused, and logs some of them.
func (a *Agent) refused(orders []tasker.Order) {
	for _, o := range orders {
		a.metrics.refused(refusedSignature)
		kind := kindOf(o)
		if !a.mayComplain(kind) {
			continue
		}
		id := ""
		switch {
		case o.Assignment != nil:
			id = o.Assignment.TaskID
		case o.Cancel != nil:
			id = o.Cancel.TaskID
		}
		a.log.Error("order refused: it is not signed by the control plane at which this agent has enrolled",
			"kind", kind, "task", id, "type", o.Type,
			"help", "if that control plane was set up anew, enrol again; if not, somebody else sends orders")
	}
}

func (a *Agent) mayComplain(kind string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.opts.Clock()
	if last, ok := a.refusals[kind]; ok && now-last < sayRefusal {
		return false
	}
	a.refusals[kind] = now
	return true
}

func kindOf(o tasker.Order) string {
	switch {
	case o.Assignment != nil:
		return "assignment"
	case o.Cancel != nil:
		return "cancel"
	case o.Welcome != nil:
		return "welcome"
	}
	return "none"
}
