package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Lease says who leads: of several control planes one moves the rollouts on.
type Lease struct {
	Name string
	// Holder is the process, by a name of its own.
	Holder string
}

// TakeLease takes or renews a lease for a time, or returns ErrLease while another
// process has it.
func (s *Store) TakeLease(ctx context.Context, l Lease, ttl time.Duration) error {
	return s.updateUnique(ctx, "take the lease of "+l.Name, func(tx *tx) error {
		switch err := tx.holds(ctx, l); {
		case errors.Is(err, ErrNotFound):
			return tx.exec(ctx, "INSERT INTO leases (name, holder, until_at) VALUES (?, ?, ?)", l.Name, l.Holder, tx.now.add(ttl))
		case err != nil && !errors.Is(err, errLapsed):
			return err
		}
		return tx.exec(ctx, "UPDATE leases SET holder = ?, until_at = ? WHERE name = ?", l.Holder, tx.now.add(ttl), l.Name)
	})
}

// ReleaseLease gives a lease back that is held, so that another process need not
// wait for its end.
func (s *Store) ReleaseLease(ctx context.Context, l Lease) error {
	return s.update(ctx, "give the lease of "+l.Name+" back", func(tx *tx) error {
		return tx.exec(ctx, "DELETE FROM leases WHERE name = ? AND holder = ?", l.Name, l.Holder)
	})
}

// errLapsed: nobody holds the lease any more.
var errLapsed = fmt.Errorf("%w: it has run out", ErrLease)

// holds locks a lease and says whether it is held by its holder.
func (t *tx) holds(ctx context.Context, l Lease) error {
	var holder string
	var until micros
	err := t.row(ctx, "SELECT holder, until_at FROM leases WHERE name = ?"+t.forUpdate, []any{l.Name}, &holder, &until)
	switch {
	case err != nil:
		return err
	case until <= t.now:
		return errLapsed
	case holder != l.Holder:
		return fmt.Errorf("%w: %s has it until %s", ErrLease, holder, until.rfc3339())
	}
	return nil
}
