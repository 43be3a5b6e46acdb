package journal

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// Entries returns every entry in the order of acceptance.
func (j *Journal) Entries() ([]Entry, error) {
	if err := j.settle(); err != nil {
		return nil, err
	}
	var all []Entry
	err := j.view("read the assignments", func(tx tables) error {
		return tx.eachEntry(func(e Entry) { all = append(all, e) })
	})
	slices.SortFunc(all, func(a, b Entry) int { return int(int64(a.Order) - int64(b.Order)) })
	return all, err
}

// Tombstones returns every tombstone.
func (j *Journal) Tombstones() ([]Tombstone, error) {
	var all []Tombstone
	err := j.view("read the tombstones", func(tx tables) error {
		return tx.eachTombstone(func(_ []byte, t Tombstone) { all = append(all, t) })
	})
	return all, err
}

// Payload returns the payload of an entry that has not ended.
func (j *Journal) Payload(ref Ref) (json.RawMessage, error) {
	var payload json.RawMessage
	err := j.view("read a payload", func(tx tables) error {
		b := tx.payloads.Get(key(ref))
		if b == nil {
			return fmt.Errorf("%s: %w", ref.TaskID, ErrUnknown)
		}
		payload = slices.Clone(b)
		return nil
	})
	return payload, err
}

// Report returns the final report of an ended entry; once its confirmation was
// written, without its output.
func (j *Journal) Report(ref Ref) (tasker.Update, error) {
	var u tasker.Update
	err := j.view("read a report", func(tx tables) error { return tx.get(tx.reports, key(ref), &u) })
	return u, err
}

// Stats say how large the journal is.
type Stats struct {
	// Entries is the number of assignments, the confirmed ones included.
	Entries int
	// Bytes is the size of the file.
	Bytes int64
}

// Stats returns the journal's size.
func (j *Journal) Stats() (Stats, error) {
	var s Stats
	err := j.view("measure the journal", func(tx tables) error {
		s = Stats{Entries: tx.entries.Stats().KeyN, Bytes: tx.tx.Size()}
		return nil
	})
	return s, err
}
