// Package journal is an agent's crash-safe record of the assignments it has accepted and
// of the reports it must still send. It is one file: a change for which a method has
// returned nil survives a crash of the process or the machine.
//
// An assignment is held or accepted, starting, ended, and confirmed. One hour after its
// deadline it is swept. A tombstone keeps a cancelled assignment from starting.
package journal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/groupcommit"
)

// The errors of this package; match them with errors.Is.
var (
	// ErrLocked means that another process has the journal open.
	ErrLocked = errors.New("in use by another process")
	// ErrCorrupt means that the file cannot be read.
	ErrCorrupt = errors.New("corrupt")
	// ErrTooNew means that a later version of this program wrote the file.
	ErrTooNew = errors.New("written by a newer version")
	// ErrUnknown means that the assignment is not in the journal, or that its phase does
	// not allow the change.
	ErrUnknown = errors.New("not in the journal")
)

// Journal is an open journal. Its methods are safe for concurrent use. Concurrent writes
// share a transaction. A method that writes returns after an fsync, except for Confirm.
type Journal struct {
	db       *bolt.DB
	writes   *groupcommit.Group[func(buckets) error]
	instance string
	// epoch counts how often the journal was opened.
	epoch int64
	seq   atomic.Int64

	mu sync.Mutex
	// confirmed are the entries whose confirmation was not written yet.
	confirmed []Ref
}

// Instance returns the random id of the journal, which never changes.
func (j *Journal) Instance() string { return j.instance }

// Seq returns the next sequence number of an update. Numbers increase across restarts
// without a write for each number: the upper half is the epoch.
func (j *Journal) Seq() int64 { return j.epoch<<32 | j.seq.Add(1) }

// Close writes pending confirmations, and closes and unlocks the file.
func (j *Journal) Close() error {
	err := j.writeConfirmations()
	if e := j.db.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close the journal: %w", e))
	}
	return err
}

// Accept records assignments and tombstones in one transaction. It does not change
// assignments that the journal has already.
func (j *Journal) Accept(records []Record, tombstones []Tombstone) error {
	if len(records) == 0 && len(tombstones) == 0 {
		return nil
	}
	return j.write("accept assignments", func(b buckets) error {
		for _, r := range records {
			if err := b.accept(r); err != nil {
				return err
			}
		}
		for _, t := range tombstones {
			if err := put(b.tombstones, key(Ref{TaskID: t.TaskID, Attempt: t.Attempt}), t); err != nil {
				return err
			}
		}
		return nil
	})
}

// Admit moves held entries to the phase Accepted and records their updates. In the same
// transaction it removes the late entries, as if they had never been accepted.
func (j *Journal) Admit(updates []tasker.Update, late []Ref) error {
	if len(updates) == 0 && len(late) == 0 {
		return nil
	}
	return j.write("admit assignments", func(b buckets) error {
		err := b.eachUpdate(updates, func(e *Entry, u tasker.Update) error {
			if e.Phase != Held {
				return fmt.Errorf("%s is %s: %w", e.TaskID, e.Phase, ErrUnknown)
			}
			e.Phase, e.LastUpdate = Accepted, summary(u)
			if e.Deadline.IsZero() && u.ReceivedAt != nil {
				e.Deadline = *u.ReceivedAt
			}
			return b.putEntry(*e)
		})
		if err != nil {
			return err
		}
		return b.drop(late)
	})
}

// Start records that the handler is about to start, with the update that will report it.
// After a restart of the agent the handler may start again. Then the processes of the
// earlier start are removed.
func (j *Journal) Start(u tasker.Update) error {
	return j.writeUpdates("record the start", []tasker.Update{u}, func(b buckets, e *Entry, u tasker.Update) error {
		if e.Phase != Accepted && e.Phase != Starting {
			return fmt.Errorf("%s is %s: %w", e.TaskID, e.Phase, ErrUnknown)
		}
		e.Phase, e.Processes, e.LastUpdate = Starting, nil, summary(u)
		return b.putEntry(*e)
	})
}

// AddProcess records a process that the handler has started.
func (j *Journal) AddProcess(ref Ref, p handlers.Process) error {
	return j.write("record a process", func(b buckets) error {
		e, err := b.entry(ref)
		if err != nil {
			return err
		}
		e.Processes = append(e.Processes, p)
		return b.putEntry(e)
	})
}

// Update records updates that are about to be sent, without result and output, so that a
// restarted agent continues from there. It ignores updates of ended entries.
func (j *Journal) Update(updates ...tasker.Update) error {
	return j.writeUpdates("record updates", updates, func(b buckets, e *Entry, u tasker.Update) error {
		if e.Phase == Ended || e.LastUpdate.Seq >= u.Seq {
			return nil
		}
		e.LastUpdate = summary(u)
		return b.putEntry(*e)
	})
}

// End records final reports. A report is kept until it is confirmed and swept. An entry
// keeps its first final report.
func (j *Journal) End(updates ...tasker.Update) error {
	return j.writeUpdates("record final reports", updates, func(b buckets, e *Entry, u tasker.Update) error {
		if e.Phase == Ended {
			return nil
		}
		return b.end(e, u)
	})
}

// maxConfirmed is how many confirmations may wait to be written.
const maxConfirmed = 256

// Confirm records that final reports were delivered; their output is deleted. It ignores
// unknown entries. Confirm does not write at once, but with the next transaction, at the
// latest in Sweep, Entries or Close. If the process crashes before, the reports are sent
// once more.
func (j *Journal) Confirm(refs ...Ref) error {
	j.mu.Lock()
	j.confirmed = append(j.confirmed, refs...)
	full := len(j.confirmed) >= maxConfirmed
	j.mu.Unlock()
	if full {
		return j.writeConfirmations()
	}
	return nil
}

// writeConfirmations writes the pending confirmations.
func (j *Journal) writeConfirmations() error {
	j.mu.Lock()
	pending := len(j.confirmed)
	j.mu.Unlock()
	if pending == 0 {
		return nil
	}
	return j.write("record confirmed reports", func(buckets) error { return nil })
}

// Sweep removes the confirmed entries and the tombstones whose deadline is before the
// given time. It returns the removed entries.
func (j *Journal) Sweep(before time.Time) ([]Ref, error) {
	if err := j.writeConfirmations(); err != nil {
		return nil, err
	}
	var refs []Ref
	var tombstones [][]byte
	err := j.read("find outdated entries", func(b buckets) error {
		return errors.Join(
			b.eachEntry(func(e Entry) {
				if e.Confirmed && e.Deadline.Before(before) {
					refs = append(refs, e.Ref())
				}
			}),
			b.eachTombstone(func(k []byte, t Tombstone) {
				if t.Deadline.Before(before) {
					tombstones = append(tombstones, slices.Clone(k))
				}
			}))
	})
	if err != nil || len(refs) == 0 && len(tombstones) == 0 {
		return nil, err
	}
	err = j.write("sweep", func(b buckets) error {
		for _, k := range tombstones {
			if err := b.tombstones.Delete(k); err != nil {
				return err
			}
		}
		return b.drop(refs)
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}
