// Package journal is an agent's crash-safe record of the assignments it has
// accepted and of the reports it still owes: one file, in which whatever a
// method returned nil for has survived a crash of the process or the machine.
//
// An assignment is held or accepted, starting, ended, confirmed and, an hour
// past its deadline, swept. Tombstones keep what was cancelled from starting.
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
	// ErrLocked: another process has the journal open.
	ErrLocked = errors.New("in use by another process")
	// ErrCorrupt: the file cannot be read.
	ErrCorrupt = errors.New("corrupt")
	// ErrTooNew: a later version of this program wrote the file.
	ErrTooNew = errors.New("written by a newer version")
	// ErrUnknown: no such assignment, or none in a phase that allows it.
	ErrUnknown = errors.New("not in the journal")
)

// Journal is an open journal. Its methods may be called concurrently; each is
// one transaction, which those that write at the same time share, and those that
// write, but for Confirm, return after an fsync.
type Journal struct {
	db       *bolt.DB
	writes   *groupcommit.Group[func(tables) error]
	instance string
	// epoch counts the times the journal was opened.
	epoch int64
	said  atomic.Int64

	mu sync.Mutex
	// handed are the entries whose confirmation waits to be written.
	handed []Ref
}

// Instance identifies the journal: it is random, and made once.
func (j *Journal) Instance() string { return j.instance }

// Seq returns the next sequence number of an update. Numbers increase over
// restarts without a write for each: the upper half counts the times the
// journal was opened.
func (j *Journal) Seq() int64 { return j.epoch<<32 | j.said.Add(1) }

// Close writes what is confirmed, closes the file and gives up the lock.
func (j *Journal) Close() error {
	err := j.settle()
	if e := j.db.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close the journal: %w", e))
	}
	return err
}

// Accept records a batch as a whole, in one transaction. Entries that are there
// already stay as they are.
func (j *Journal) Accept(records []Record, tombstones []Tombstone) error {
	if len(records) == 0 && len(tombstones) == 0 {
		return nil
	}
	return j.update("accept assignments", func(tx tables) error {
		for _, r := range records {
			if err := tx.accept(r); err != nil {
				return err
			}
		}
		for _, t := range tombstones {
			if err := tx.put(tx.tombstones, key(Ref{TaskID: t.TaskID, Attempt: t.Attempt}), t); err != nil {
				return err
			}
		}
		return nil
	})
}

// Admit turns held entries into accepted ones and notes the updates.
func (j *Journal) Admit(updates ...tasker.Update) error {
	return j.each("admit assignments", updates, func(tx tables, e *Entry, u tasker.Update) error {
		if e.Phase != Held {
			return fmt.Errorf("%s is %s: %w", e.TaskID, e.Phase, ErrUnknown)
		}
		e.Phase, e.Last = Accepted, brief(u)
		if e.Deadline.IsZero() && u.ReceivedAt != nil {
			e.Deadline = *u.ReceivedAt
		}
		return tx.putEntry(*e)
	})
}

// Start records that the handler is about to be started, with the update that
// will say so; it comes before the start. The handler may be started again
// after a restart of the agent; the processes of the earlier start are
// forgotten then.
func (j *Journal) Start(u tasker.Update) error {
	return j.each("record the start", []tasker.Update{u}, func(tx tables, e *Entry, u tasker.Update) error {
		if e.Phase != Accepted && e.Phase != Starting {
			return fmt.Errorf("%s is %s: %w", e.TaskID, e.Phase, ErrUnknown)
		}
		e.Phase, e.Processes, e.Last = Starting, nil, brief(u)
		return tx.putEntry(*e)
	})
}

// Spawned records a process that the handler started.
func (j *Journal) Spawned(ref Ref, p handlers.Process) error {
	return j.update("record a process", func(tx tables) error {
		e, err := tx.entry(ref)
		if err != nil {
			return err
		}
		e.Processes = append(e.Processes, p)
		return tx.putEntry(e)
	})
}

// Note records updates that are about to be sent, without result and output, so
// that a restarted agent goes on from there. Those for ended or unknown entries
// are ignored.
func (j *Journal) Note(updates ...tasker.Update) error {
	return j.each("note updates", updates, func(tx tables, e *Entry, u tasker.Update) error {
		if e.Phase == Ended || e.Last.Seq >= u.Seq {
			return nil
		}
		e.Last = brief(u)
		return tx.putEntry(*e)
	})
}

// End records final reports. Each is kept until it is confirmed and swept; the
// first one for an entry stays.
func (j *Journal) End(updates ...tasker.Update) error {
	return j.each("record final reports", updates, func(tx tables, e *Entry, u tasker.Update) error {
		if e.Phase == Ended {
			return nil
		}
		return tx.end(e, u)
	})
}

// maxHanded is how many confirmations may wait to be written.
const maxHanded = 256

// Confirm says that final reports were handed over; what they say of the output is
// kept no longer. Unknown entries are ignored. It is written with the next
// transaction, at the latest by Sweep, Entries and Close: a confirmation that is
// lost with the process costs no more than the same report once again.
func (j *Journal) Confirm(refs ...Ref) error {
	j.mu.Lock()
	j.handed = append(j.handed, refs...)
	full := len(j.handed) >= maxHanded
	j.mu.Unlock()
	if full {
		return j.settle()
	}
	return nil
}

// settle writes the confirmations that wait.
func (j *Journal) settle() error {
	j.mu.Lock()
	waiting := len(j.handed)
	j.mu.Unlock()
	if waiting == 0 {
		return nil
	}
	return j.update("record confirmed reports", func(tables) error { return nil })
}

// Drop forgets entries as if they had never been accepted.
func (j *Journal) Drop(refs ...Ref) error {
	if len(refs) == 0 {
		return nil
	}
	return j.update("drop assignments", func(tx tables) error {
		for _, ref := range refs {
			if err := tx.drop(ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sweep forgets the confirmed entries, and the tombstones, whose deadline is
// before the given time, and returns the entries' names.
func (j *Journal) Sweep(before time.Time) ([]Ref, error) {
	if err := j.settle(); err != nil {
		return nil, err
	}
	var gone []Ref
	var stones [][]byte
	err := j.view("look for what is out of date", func(tx tables) error {
		return errors.Join(
			tx.eachEntry(func(e Entry) {
				if e.Confirmed && e.Deadline.Before(before) {
					gone = append(gone, e.Ref())
				}
			}),
			tx.eachTombstone(func(k []byte, t Tombstone) {
				if t.Deadline.Before(before) {
					stones = append(stones, slices.Clone(k))
				}
			}))
	})
	if err != nil || len(gone) == 0 && len(stones) == 0 {
		return nil, err
	}
	err = j.update("sweep", func(tx tables) error {
		for _, ref := range gone {
			if err := tx.drop(ref); err != nil {
				return err
			}
		}
		for _, k := range stones {
			if err := tx.tombstones.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}
