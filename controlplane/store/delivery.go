package store

import (
	"github.com/MatthiasWiesner/tasker"
)

// delivery is the outcome of sending a claim's order.
type delivery struct {
	Unsent
	sent bool
}

// sent returns the deliveries of claims whose orders were sent.
func sent(claims []Claim) []delivery {
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
	if c.Cancel {
		if c.isCurrent(t.cancelSendAt) {
			t.cancelSendAt, t.dirty = 0, true
		}
		return
	}
	if c.isCurrent(t.nextSendAt) {
		t.nextSendAt, t.dirty = 0, true
	}
	if !t.broadcastSent {
		t.broadcastSent, t.Reason = true, ""
		t.change()
	}
}

func responseSent(cs *changeSet, r *responseRow, c Claim) {
	if c.Cancel {
		if c.isCurrent(r.cancelSendAt) {
			r.cancelSendAt, r.dirty = 0, true
		}
		return
	}
	if c.isCurrent(r.nextSendAt) {
		r.nextSendAt, r.dirty = 0, true
	}
	if r.Status == tasker.Pending {
		r.Status, r.Reason, r.SentAt, r.changed = tasker.Sent, "", cs.Now.TimeOrNil(), true
	}
}

func taskUnsent(cs *changeSet, t *taskRow, u Unsent) {
	switch {
	case u.Cancel && u.isCurrent(t.cancelSendAt):
		t.cancelSendAt, t.dirty = cs.Now.Add(u.After), true
		if cs.Now > t.deadline().Add(cancelLifetime) || t.FinishedAt != nil {
			t.cancelSendAt = 0
		}
	case !u.Cancel && u.isCurrent(t.nextSendAt):
		t.nextSendAt, t.dirty = cs.Now.Add(u.After), true
		if !t.broadcastSent && t.Reason != u.Reason {
			t.Reason = u.Reason
			t.change()
		}
	}
}

func responseUnsent(cs *changeSet, t *taskRow, r *responseRow, u Unsent) {
	switch {
	case !u.Cancel && r.Status == tasker.Pending && t.CancelRequestedAt != nil:
		cancelUnsent(cs, r)
	case u.Cancel && u.isCurrent(r.cancelSendAt):
		r.cancelSendAt, r.dirty = cs.Now.Add(u.After), true
		// The response was cancelled before it was received. After the deadline no
		// agent would start it any more.
		if r.Status.Ended() && cs.Now > t.deadline() {
			r.cancelSendAt = 0
		}
	case !u.Cancel && u.isCurrent(r.nextSendAt):
		r.nextSendAt, r.dirty = cs.Now.Add(u.After), true
		if r.Status == tasker.Pending && r.Reason != u.Reason {
			r.Reason, r.changed = u.Reason, true
		}
	}
}
