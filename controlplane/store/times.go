package store

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// timed returns the update with times that can be true by the database's clock. An
// agent knows that clock from its welcome, and is behind by the welcome's way; but
// nothing is received before its order was released, nor ends after that was
// reported. All three times move by as much as the first of them, so what the agent
// says of how long something took stays.
func (b *batch) timed(t *taskRow, r *responseRow, u tasker.Update) tasker.Update {
	if u.ReceivedAt == nil {
		return u
	}
	said := microsOf(*u.ReceivedAt)
	received := microsAt(r.ReceivedAt)
	if received == 0 {
		received = min(max(said, r.released(t)), b.tx.now)
	}
	for _, at := range []**time.Time{&u.ReceivedAt, &u.StartedAt, &u.FinishedAt} {
		if *at != nil {
			*at = min(microsOf(**at)+received-said, b.tx.now).at()
		}
	}
	return u
}

// released is since when the order of the row's attempt can have been received.
func (r *responseRow) released(t *taskRow) micros {
	if r.expiresAt != 0 {
		return r.expiresAt.add(-t.ReceiveTimeout.D())
	}
	return microsOf(t.CreatedAt)
}
