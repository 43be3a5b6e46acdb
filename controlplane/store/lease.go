package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Lease makes one of several control planes the leader, which advances rollouts.
type Lease struct {
	Name string
	// Holder identifies the process.
	Holder string
}

// errLeaseExpired: no process holds the lease any longer.
var errLeaseExpired = fmt.Errorf("%w: it has expired", ErrLease)

// Leases stores leases.
type Leases struct{ db *database }

// AcquireLease acquires or renews a lease for ttl, or returns ErrLease while another
// process holds it.
func (l *Leases) AcquireLease(ctx context.Context, lease Lease, ttl time.Duration) error {
	return l.db.updateUnique(ctx, "acquire the lease of "+lease.Name, func(tx *tx) error {
		switch err := lockLease(ctx, tx, lease); {
		case errors.Is(err, ErrNotFound):
			return tx.Exec(ctx, "INSERT INTO leases (name, holder, until_at) VALUES (?, ?, ?)", lease.Name, lease.Holder, tx.Now.Add(ttl))
		case err != nil && !errors.Is(err, errLeaseExpired):
			return err
		}
		return tx.Exec(ctx, "UPDATE leases SET holder = ?, until_at = ? WHERE name = ?", lease.Holder, tx.Now.Add(ttl), lease.Name)
	})
}

// ReleaseLease ends a lease early if it is held, so that another process need not
// wait.
func (l *Leases) ReleaseLease(ctx context.Context, lease Lease) error {
	return l.db.update(ctx, "release the lease of "+lease.Name, func(tx *tx) error {
		return tx.Exec(ctx, "DELETE FROM leases WHERE name = ? AND holder = ?", lease.Name, lease.Holder)
	})
}

// lockLease locks a lease and returns an error unless its holder holds it now.
func lockLease(ctx context.Context, t *tx, lease Lease) error {
	var holder string
	var until sqldb.Micros
	err := t.QueryRow(ctx, "SELECT holder, until_at FROM leases WHERE name = ?"+t.ForUpdate, []any{lease.Name}, &holder, &until)
	switch {
	case err != nil:
		return err
	case until <= t.Now:
		return errLeaseExpired
	case holder != lease.Holder:
		return fmt.Errorf("%w: %s holds it until %s", ErrLease, holder, until.RFC3339())
	}
	return nil
}
