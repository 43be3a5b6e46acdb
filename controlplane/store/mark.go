package store

import (
	"context"
	"errors"

	"github.com/MatthiasWiesner/tasker"
)

// MarkSent writes sent over pending and clears next_send_at, where no report has
// done so meanwhile.
func (s *Store) MarkSent(ctx context.Context, claims []Claim) error {
	var marks []mark
	var patient []Claim
	for _, c := range claims {
		if s.flights.waits(c) {
			patient = append(patient, c)
		} else {
			marks = append(marks, sent(c))
		}
	}
	err := s.mark(ctx, marks)
	marks = nil
	for _, c := range s.flights.end(ctx, patient) {
		marks = append(marks, sent(c))
	}
	return errors.Join(err, s.mark(ctx, marks))
}

// MarkUnsent keeps the row pending with the reason and makes it due again after
// the back-off.
func (s *Store) MarkUnsent(ctx context.Context, unsent []Unsent) error {
	marks := make([]mark, len(unsent))
	for i, u := range unsent {
		marks[i].Unsent = u
		s.flights.forget([]Claim{u.Claim})
	}
	return s.mark(ctx, marks)
}

func (s *Store) mark(ctx context.Context, marks []mark) error {
	if len(marks) == 0 {
		return nil
	}
	return s.entries.Do(ctx, &entry{marks: marks}, len(marks))
}

// mark is what became of a claim.
type mark struct {
	Unsent
	sent bool
}

func sent(c Claim) mark { return mark{Unsent: Unsent{Claim: c}, sent: true} }

// mark writes what became of a claim, if it is still of the row's attempt.
func (b *batch) mark(m mark) {
	t, r := b.unit.tasks[m.TaskID], b.unit.rows[key{m.TaskID, m.Endpoint}]
	switch {
	case t == nil:
	case m.Endpoint == "" && m.sent:
		t.markSent(m.Claim)
	case m.Endpoint == "":
		t.markUnsent(m.Unsent, b.tx.now)
	case r == nil:
	case m.sent:
		r.markSent(m.Claim, b.tx.now)
	default:
		b.unit.markUnsent(r, m.Unsent, t)
	}
}

// settles says whether the claim may still say when the order is due next.
func (c Claim) settles(at micros) bool { return at != 0 && (c.held == 0 || c.held == at) }

func (t *taskRow) markSent(c Claim) {
	switch {
	case c.Attempt != t.attempt:
	case c.Cancel && c.settles(t.cancelSendAt):
		t.cancelSendAt, t.dirty = 0, true
	case !c.Cancel:
		if c.settles(t.nextSendAt) {
			t.nextSendAt, t.dirty = 0, true
		}
		if !t.sent {
			t.sent, t.Reason, t.changed = true, "", true
		}
	}
}

func (r *responseRow) markSent(c Claim, now micros) {
	if c.Attempt != r.Attempt {
		return
	}
	if c.Cancel {
		if c.settles(r.cancelSendAt) {
			r.cancelSendAt, r.dirty = 0, true
		}
		return
	}
	if c.settles(r.nextSendAt) {
		r.nextSendAt, r.dirty = 0, true
	}
	if r.Status == tasker.Pending {
		r.Status, r.Reason, r.SentAt, r.changed = tasker.Sent, "", now.at(), true
	}
}

func (t *taskRow) markUnsent(c Unsent, now micros) {
	switch {
	case c.Attempt != t.attempt:
	case c.Cancel && c.settles(t.cancelSendAt):
		t.cancelSendAt, t.dirty = now.add(c.After), true
		if now > t.deadline().add(tombstoneLife) || t.FinishedAt != nil {
			t.cancelSendAt = 0
		}
	case !c.Cancel && c.settles(t.nextSendAt):
		t.nextSendAt, t.dirty = now.add(c.After), true
		if !t.sent && t.Reason != c.Reason {
			t.Reason, t.changed = c.Reason, true
		}
	}
}

func (u *unit) markUnsent(r *responseRow, c Unsent, t *taskRow) {
	now := u.now
	switch {
	case c.Attempt != r.Attempt:
	case !c.Cancel && r.Status == tasker.Pending && t.CancelRequestedAt != nil:
		u.cancelUnsent(r)
	case c.Cancel && c.settles(r.cancelSendAt):
		r.cancelSendAt, r.dirty = now.add(c.After), true
		// It was cancelled before it was received: after the deadline no agent
		// would start it any more.
		if r.Status.Ended() && now > t.deadline() {
			r.cancelSendAt = 0
		}
	case !c.Cancel && c.settles(r.nextSendAt):
		r.nextSendAt, r.dirty = now.add(c.After), true
		if r.Status == tasker.Pending && r.Reason != c.Reason {
			r.Reason, r.changed = c.Reason, true
		}
	}
}
