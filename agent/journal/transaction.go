package journal

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
)

// maxShared is how many writes share a transaction.
const maxShared = 256

// read runs fn in a read-only transaction.
func (j *Journal) read(purpose string, fn func(buckets) error) error {
	if err := j.db.View(func(tx *bolt.Tx) error { return fn(bucketsOf(tx)) }); err != nil {
		return fmt.Errorf("journal: %s: %w", purpose, err)
	}
	return nil
}

// write runs fn in a transaction that it may share with concurrent writes. If the
// transaction fails, fn runs again.
func (j *Journal) write(purpose string, fn func(buckets) error) error {
	if err := j.writes.Do(context.Background(), fn, 1); err != nil {
		return fmt.Errorf("journal: %s: %w", purpose, err)
	}
	return nil
}

// writeUpdates runs fn for each update and its entry in one transaction.
func (j *Journal) writeUpdates(purpose string, updates []tasker.Update, fn func(buckets, *Entry, tasker.Update) error) error {
	if len(updates) == 0 {
		return nil
	}
	return j.write(purpose, func(b buckets) error {
		return b.eachUpdate(updates, func(e *Entry, u tasker.Update) error { return fn(b, e, u) })
	})
}

// commit runs fns in one transaction, which also writes the pending confirmations.
func (j *Journal) commit(_ context.Context, fns []func(buckets) error) error {
	var confirmed []Ref
	err := j.db.Update(func(tx *bolt.Tx) error {
		j.mu.Lock()
		confirmed, j.confirmed = j.confirmed, nil
		j.mu.Unlock()
		b := bucketsOf(tx)
		if err := b.confirm(confirmed); err != nil {
			return err
		}
		for _, fn := range fns {
			if err := fn(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		j.mu.Lock()
		j.confirmed = append(confirmed, j.confirmed...)
		j.mu.Unlock()
	}
	return err
}
