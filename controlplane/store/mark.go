package store

import (
	"context"

	"github.com/MatthiasWiesner/tasker"
)

// MarkSent writes sent over pending and clears next_send_at.
func (s *Store) MarkSent(ctx context.Context, claims []Claim) error {
	unsent := make([]Unsent, len(claims))
	for i, c := range claims {
		unsent[i].Claim = c
	}
	return s.settle(ctx, "mark orders as sent", unsent, func(u *unit, c Unsent) {
		if t := u.tasks[c.TaskID]; t != nil && c.Endpoint == "" {
			t.markSent(c.Claim)
		} else if r := u.rows[key{c.TaskID, c.Endpoint}]; r != nil {
			r.markSent(c.Claim, u.now)
		}
	})
}

// MarkUnsent keeps the row pending with the reason and makes it due again after
// the back-off.
func (s *Store) MarkUnsent(ctx context.Context, unsent []Unsent) error {
	return s.settle(ctx, "mark orders as not sent", unsent, func(u *unit, c Unsent) {
		t := u.tasks[c.TaskID]
		if t != nil && c.Endpoint == "" {
			t.markUnsent(c, u.now)
		} else if r := u.rows[key{c.TaskID, c.Endpoint}]; r != nil {
			u.markUnsent(r, c, t)
		}
	})
}

// settle calls mark for each claim that is still of the row's attempt.
func (s *Store) settle(ctx context.Context, doing string, claims []Unsent, mark func(*unit, Unsent)) error {
	if len(claims) == 0 {
		return nil
	}
	var ids []string
	var keys []key
	for _, c := range claims {
		ids = append(ids, c.TaskID)
		if c.Endpoint != "" {
			keys = append(keys, key{c.TaskID, c.Endpoint})
		}
	}
	return s.update(ctx, doing, func(tx *tx) error {
		u, err := tx.lock(ctx, ids)
		if err != nil {
			return err
		}
		if err := u.load(ctx, keys); err != nil {
			return err
		}
		for _, c := range claims {
			mark(u, c)
		}
		_, err = u.flush(ctx)
		return err
	})
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
