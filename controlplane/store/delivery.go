package store

import (
	"github.com/MatthiasWiesner/tasker"
)

// delivery is the outcome of sending a claim's order.
type delivery struct {
	Unsent
	sent bool
}

// sentDeliveries returns the deliveries of claims whose orders were sent.
func sentDeliveries(claims []Claim) []delivery {
	deliveries := make([]delivery, len(claims))
	for i, c := range claims {
		deliveries[i] = delivery{Unsent: Unsent{Claim: c}, sent: true}
	}
	return deliveries
}

// applyDelivery changes the row of a claim, if it is still at the claim's attempt.
func applyDelivery(cs *changeSet, d delivery) {
	t, r := cs.tasks[d.TaskID], cs.responses[d.key()]
	switch {
	case t == nil || d.Endpoint == "" && d.Attempt != t.attempt:
	case d.Endpoint == "" && d.sent:
		taskSent(t, d.Claim)
	case d.Endpoint == "":
		taskUnsent(cs, t, d.Unsent)
	case r == nil || d.Attempt != r.Attempt:
	case d.sent:
		responseSent(cs, r, d.Claim)
	default:
		responseUnsent(cs, t, r, d.Unsent)
	}
}

func taskSent(t *taskRow, c Claim) {
	if t.reschedule(c, 0) {
		t.dirty = true
	}
	if !c.Cancel && !t.broadcastSent {
		t.broadcastSent, t.Reason = true, ""
		t.change()
	}
}

func responseSent(cs *changeSet, r *responseRow, c Claim) {
	if r.reschedule(c, 0) {
		r.dirty = true
	}
	if !c.Cancel && r.Status == tasker.Pending {
		r.Status, r.Reason, r.SentAt, r.changed = tasker.Sent, "", cs.Now.TimeOrNil(), true
	}
}

func taskUnsent(cs *changeSet, t *taskRow, u Unsent) {
	next := cs.Now.Add(u.After)
	if u.Cancel && (cs.Now > t.deadline().Add(cancelLifetime) || t.FinishedAt != nil) {
		next = 0
	}
	if !t.reschedule(u.Claim, next) {
		return
	}
	t.dirty = true
	if !u.Cancel && !t.broadcastSent && t.Reason != u.Reason {
		t.Reason = u.Reason
		t.change()
	}
}

func responseUnsent(cs *changeSet, t *taskRow, r *responseRow, u Unsent) {
	isPending := !u.Cancel && r.Status == tasker.Pending
	if isPending && r.SentAt == nil {
		switch {
		case u.MaybeSent:
			r.SentAt, r.changed = cs.Now.TimeOrNil(), true
		case t.CancelRequestedAt != nil:
			cancelUnsent(cs, r)
			return
		}
	}
	next := cs.Now.Add(u.After)
	// A response that was cancelled before it was received needs no cancel after the
	// deadline: no agent would start it any more.
	if u.Cancel && r.Status.Ended() && cs.Now > t.deadline() {
		next = 0
	}
	if !r.reschedule(u.Claim, next) {
		return
	}
	r.dirty = true
	if isPending && r.Reason != u.Reason {
		r.Reason, r.changed = u.Reason, true
	}
}
