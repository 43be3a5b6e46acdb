package store

import (
	"context"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Commit lists what a transaction changed.
type Commit struct {
	// Tasks are the ids of the tasks that changed.
	Tasks []string
	// Due: an order is due now.
	Due bool
	// Rollouts: a rollout is due for a decision now.
	Rollouts bool
	// Callbacks: a callback is due now.
	Callbacks bool
}

// database is the SQL database with the store's reaction to commits.
type database struct {
	*sqldb.DB
	onCommit   func(Commit)
	localClock func() time.Time
}

// tx is a transaction that writes, with the commit that it publishes.
type tx struct {
	*sqldb.Tx
	commit Commit
}

// update runs fn in one transaction and calls onCommit. If the transaction was
// rolled back because of a deadlock or lock timeout, fn runs again from the start and must
// not keep results of an earlier try.
func (d *database) update(ctx context.Context, action string, fn func(*tx) error) error {
	var t *tx
	err := d.Update(ctx, action, func(q *sqldb.Tx) error {
		t = &tx{Tx: q}
		return fn(t)
	})
	if err != nil {
		return err
	}
	if d.onCommit != nil && (len(t.commit.Tasks) > 0 || t.commit.Due || t.commit.Rollouts) {
		d.onCommit(t.commit)
	}
	return nil
}

// updateReturning is update for an fn that returns a value.
func updateReturning[T any](ctx context.Context, d *database, action string, fn func(*tx) (T, error)) (out T, err error) {
	err = d.update(ctx, action, func(t *tx) (err error) {
		out, err = fn(t)
		return err
	})
	return out, err
}

// updateUnique is update for an fn that inserts a row which another transaction may
// insert as well: fn then runs once more and sees that row.
func (d *database) updateUnique(ctx context.Context, action string, fn func(*tx) error) error {
	err := d.update(ctx, action, fn)
	if d.IsDuplicate(err) {
		err = d.update(ctx, action, fn)
	}
	return err
}

// localTime converts at from the database's clock (now) to the local clock. Transports
// expire orders by the local clock.
func (d *database) localTime(at, now sqldb.Micros) time.Time {
	return d.localClock().UTC().Add(at.Sub(now))
}
