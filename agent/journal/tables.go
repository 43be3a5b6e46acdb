package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
)

// The buckets of the file. Payloads and reports are apart from the entries, so
// that a change of phase does not rewrite a megabyte.
const (
	bucketMeta       = "meta"
	bucketEntries    = "entries"
	bucketPayloads   = "payloads"
	bucketReports    = "reports"
	bucketTombstones = "tombstones"
)

// tables are the buckets within one transaction.
type tables struct {
	tx                                     *bolt.Tx
	entries, payloads, reports, tombstones *bolt.Bucket
}

func open(tx *bolt.Tx) tables {
	bucket := func(name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }
	return tables{
		tx: tx, entries: bucket(bucketEntries), payloads: bucket(bucketPayloads),
		reports: bucket(bucketReports), tombstones: bucket(bucketTombstones),
	}
}

// update runs fn in a transaction, which it may share with others, and again if
// that fails for one of them.
func (j *Journal) update(what string, fn func(tables) error) error {
	if err := j.writes.Do(context.Background(), fn, 1); err != nil {
		return fmt.Errorf("journal: %s: %w", what, err)
	}
	return nil
}

// maxShared is how many writes share a transaction.
const maxShared = 256

// write runs fns in one transaction, which also writes the confirmations that wait.
func (j *Journal) write(_ context.Context, fns []func(tables) error) error {
	var confirmed []Ref
	err := j.db.Update(func(tx *bolt.Tx) error {
		j.mu.Lock()
		confirmed, j.handed = j.handed, nil
		j.mu.Unlock()
		t := open(tx)
		if err := t.confirm(confirmed); err != nil {
			return err
		}
		for _, fn := range fns {
			if err := fn(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		j.mu.Lock()
		j.handed = append(confirmed, j.handed...)
		j.mu.Unlock()
	}
	return err
}

func (j *Journal) view(what string, fn func(tables) error) error {
	if err := j.db.View(func(tx *bolt.Tx) error { return fn(open(tx)) }); err != nil {
		return fmt.Errorf("journal: %s: %w", what, err)
	}
	return nil
}

// each hands fn every update with its entry, in one transaction.
func (j *Journal) each(what string, updates []tasker.Update, fn func(tables, *Entry, tasker.Update) error) error {
	if len(updates) == 0 {
		return nil
	}
	return j.update(what, func(tx tables) error {
		for _, u := range updates {
			e, err := tx.entry(refOf(u))
			if err != nil {
				return err
			}
			if err := fn(tx, &e, u); err != nil {
				return err
			}
		}
		return nil
	})
}

func refOf(u tasker.Update) Ref { return Ref{TaskID: u.TaskID, Attempt: u.Attempt} }

// key sorts by task, then by attempt. Task ids contain no zero byte.
func key(ref Ref) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(ref.TaskID), 0), uint32(ref.Attempt))
}

// brief is what an entry keeps of an update.
func brief(u tasker.Update) tasker.Update {
	u.Result, u.Output = nil, nil
	return u
}

func (t tables) put(b *bolt.Bucket, k []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Put(k, data)
}

func (t tables) get(b *bolt.Bucket, k []byte, v any) error {
	data := b.Get(k)
	if data == nil {
		return fmt.Errorf("%q: %w", k, ErrUnknown)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: decode %q: %w", ErrCorrupt, k, err)
	}
	return nil
}

func (t tables) entry(ref Ref) (Entry, error) {
	var e Entry
	err := t.get(t.entries, key(ref), &e)
	return e, err
}

func (t tables) putEntry(e Entry) error { return t.put(t.entries, key(e.Ref()), e) }

func (t tables) accept(r Record) error {
	a := r.Assignment
	k := key(Ref{TaskID: a.TaskID, Attempt: a.Attempt})
	if t.entries.Get(k) != nil {
		return nil
	}
	order, err := t.entries.NextSequence()
	if err != nil {
		return fmt.Errorf("number an assignment: %w", err)
	}
	e := Entry{
		TaskID: a.TaskID, Attempt: a.Attempt, Identifier: a.Identifier, Type: r.Type, Handler: a.Handler,
		Timeout: a.Timeout, Deadline: a.Deadline, Action: a.Action, Undoes: a.Undoes, Order: order, Phase: Accepted, Last: brief(r.Update),
	}
	if r.Update.Status.Ended() {
		return t.end(&e, r.Update)
	}
	switch {
	case r.Held:
		e.Phase = Held
	case r.Starting:
		e.Phase = Starting
	}
	if err := t.putEntry(e); err != nil {
		return err
	}
	payload := a.Payload
	if len(payload) == 0 {
		payload = json.RawMessage("{}")
	}
	return t.payloads.Put(k, payload)
}

func (t tables) end(e *Entry, u tasker.Update) error {
	k := key(e.Ref())
	e.Phase, e.Processes, e.Last, e.Printed = Ended, nil, brief(u), len(u.Output) > 0
	if err := t.putEntry(*e); err != nil {
		return err
	}
	if err := t.put(t.reports, k, u); err != nil {
		return err
	}
	return t.payloads.Delete(k)
}

func (t tables) confirm(refs []Ref) error {
	for _, ref := range refs {
		e, err := t.entry(ref)
		if errors.Is(err, ErrUnknown) || err == nil && (e.Confirmed || e.Phase != Ended) {
			continue
		}
		if err != nil {
			return err
		}
		e.Confirmed = true
		if err := t.putEntry(e); err != nil {
			return err
		}
		if !e.Printed {
			continue
		}
		var u tasker.Update
		if err := t.get(t.reports, key(ref), &u); err != nil {
			return err
		}
		u.Output = nil
		if err := t.put(t.reports, key(ref), u); err != nil {
			return err
		}
	}
	return nil
}

func (t tables) drop(ref Ref) error {
	for _, b := range []*bolt.Bucket{t.entries, t.payloads, t.reports} {
		if err := b.Delete(key(ref)); err != nil {
			return err
		}
	}
	return nil
}

func (t tables) eachEntry(fn func(Entry)) error {
	return t.entries.ForEach(func(k, _ []byte) error {
		var e Entry
		if err := t.get(t.entries, k, &e); err != nil {
			return err
		}
		fn(e)
		return nil
	})
}

func (t tables) eachTombstone(fn func(key []byte, t Tombstone)) error {
	return t.tombstones.ForEach(func(k, _ []byte) error {
		var stone Tombstone
		if err := t.get(t.tombstones, k, &stone); err != nil {
			return err
		}
		fn(k, stone)
		return nil
	})
}
