package store

import "github.com/MatthiasWiesner/tasker"

const cancelledUnsent = "cancelled before it was sent"

// cancelResponse ends a response whose order was not sent, and sends a cancel to the
// other agents. An order that is being sent may start; its agent reports the outcome.
func cancelResponse(cs *changeSet, r *responseRow) {
	switch sendFailed := r.Reason != ""; {
	case r.Status == tasker.Pending && r.sendTries == 0:
		cs.end(r, tasker.Cancelled, cancelledUnsent, false)
	case r.Status == tasker.Pending && sendFailed:
		cancelUnsent(cs, r)
	default:
		r.nextSendAt = 0
		scheduleCancel(cs, r)
	}
}

// cancelUnsent ends a response whose order could not be sent. The order may have
// arrived all the same: the agent gets a cancel too, and its reports count.
func cancelUnsent(cs *changeSet, r *responseRow) {
	deadline := r.expiresAt
	cs.end(r, tasker.Cancelled, cancelledUnsent, true)
	if deadline > cs.Now {
		scheduleCancel(cs, r)
	}
}

// scheduleCancel makes the response's cancel order due.
func scheduleCancel(cs *changeSet, r *responseRow) {
	r.cancelSendAt, r.cancelTries, r.dirty = cs.Now, 0, true
	cs.commit.Due = true
}
