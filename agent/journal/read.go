package journal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
)

// Entries returns all entries in the order of their acceptance.
func (j *Journal) Entries() ([]Entry, error) {
	if err := j.writeConfirmations(); err != nil {
		return nil, err
	}
	var all []Entry
	err := j.read("read the assignments", func(b buckets) error {
		return b.eachEntry(func(e Entry) { all = append(all, e) })
	})
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return all, err
}

// Tombstones returns all tombstones.
func (j *Journal) Tombstones() ([]Tombstone, error) {
	var all []Tombstone
	err := j.read("read the tombstones", func(b buckets) error {
		return b.eachTombstone(func(_ []byte, t Tombstone) { all = append(all, t) })
	})
	return all, err
}

// Payload returns the payload of an entry that has not ended.
func (j *Journal) Payload(ref Ref) (payload json.RawMessage, err error) {
	err = j.read("read a payload", func(b buckets) error {
		if payload = slices.Clone(b.payloads.Get(key(ref))); payload == nil {
			return fmt.Errorf("%s: %w", ref.TaskID, ErrUnknown)
		}
		return nil
	})
	return payload, err
}

// Report returns the final report of an ended entry. Once the entry is confirmed, the
// report has no output.
func (j *Journal) Report(ref Ref) (u tasker.Update, err error) {
	err = j.read("read a report", func(b buckets) error { return get(b.reports, key(ref), &u) })
	return u, err
}

// Stats are the size of the journal.
type Stats struct {
	// Entries is the number of assignments, including confirmed ones.
	Entries int
	// Bytes is the size of the file.
	Bytes int64
}

// Stats returns the size of the journal.
func (j *Journal) Stats() (s Stats, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		s = Stats{Entries: bucketsOf(tx).entries.Stats().KeyN, Bytes: tx.Size()}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("journal: measure: %w", err)
	}
	return s, err
}
