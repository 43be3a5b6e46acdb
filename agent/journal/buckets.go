package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
)

// The buckets of the file. Payloads and reports are separate from the entries, so that a
// change of phase does not rewrite a megabyte.
const (
	bucketMeta       = "meta"
	bucketEntries    = "entries"
	bucketPayloads   = "payloads"
	bucketReports    = "reports"
	bucketTombstones = "tombstones"
)

// buckets are the buckets in one transaction.
type buckets struct {
	entries, payloads, reports, tombstones *bolt.Bucket
}

func bucketsOf(tx *bolt.Tx) buckets {
	bucket := func(name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }
	return buckets{
		entries: bucket(bucketEntries), payloads: bucket(bucketPayloads),
		reports: bucket(bucketReports), tombstones: bucket(bucketTombstones),
	}
}

// key returns the key of an assignment in every bucket. Keys sort by task, then by
// attempt: task ids contain no zero byte.
func key(ref Ref) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(ref.TaskID), 0), uint32(ref.Attempt))
}

// summary returns an update without result and output.
func summary(u tasker.Update) tasker.Update {
	u.Result, u.Output = nil, nil
	return u
}

func put(b *bolt.Bucket, k []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Put(k, data)
}

func get(b *bolt.Bucket, k []byte, v any) error {
	data := b.Get(k)
	if data == nil {
		return fmt.Errorf("%q: %w", k, ErrUnknown)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: decode %q: %w", ErrCorrupt, k, err)
	}
	return nil
}

// each decodes every value of a bucket.
func each[T any](b *bolt.Bucket, fn func(key []byte, value T)) error {
	return b.ForEach(func(k, _ []byte) error {
		var value T
		if err := get(b, k, &value); err != nil {
			return err
		}
		fn(k, value)
		return nil
	})
}

func (b buckets) eachEntry(fn func(Entry)) error {
	return each(b.entries, func(_ []byte, e Entry) { fn(e) })
}

func (b buckets) eachTombstone(fn func(key []byte, t Tombstone)) error { return each(b.tombstones, fn) }

func (b buckets) entry(ref Ref) (e Entry, err error) {
	err = get(b.entries, key(ref), &e)
	return e, err
}

// eachUpdate runs fn for each update and its entry.
func (b buckets) eachUpdate(updates []tasker.Update, fn func(*Entry, tasker.Update) error) error {
	for _, u := range updates {
		e, err := b.entry(Ref{TaskID: u.TaskID, Attempt: u.Attempt})
		if err != nil {
			return err
		}
		if err := fn(&e, u); err != nil {
			return err
		}
	}
	return nil
}

func (b buckets) putEntry(e Entry) error { return put(b.entries, key(e.Ref()), e) }

func (b buckets) accept(r Record) error {
	a := r.Assignment
	k := key(Ref{TaskID: a.TaskID, Attempt: a.Attempt})
	if b.entries.Get(k) != nil {
		return nil
	}
	sequence, err := b.entries.NextSequence()
	if err != nil {
		return fmt.Errorf("number an assignment: %w", err)
	}
	e := Entry{
		TaskID: a.TaskID, Attempt: a.Attempt, Identifier: a.Identifier, Type: r.Type, Handler: a.Handler,
		Timeout: a.Timeout, Deadline: a.Deadline, Action: a.Action, Undoes: a.Undoes,
		Sequence: sequence, Phase: Accepted, LastUpdate: summary(r.Update),
	}
	switch {
	case r.Update.Status.Ended():
		return b.end(&e, r.Update)
	case r.Held:
		e.Phase = Held
	case r.Starting:
		e.Phase = Starting
	}
	if err := b.putEntry(e); err != nil {
		return err
	}
	payload := a.Payload
	if len(payload) == 0 {
		payload = json.RawMessage("{}")
	}
	return b.payloads.Put(k, payload)
}

func (b buckets) end(e *Entry, u tasker.Update) error {
	k := key(e.Ref())
	e.Phase, e.Processes, e.LastUpdate, e.HasOutput = Ended, nil, summary(u), len(u.Output) > 0
	if err := b.putEntry(*e); err != nil {
		return err
	}
	if err := put(b.reports, k, u); err != nil {
		return err
	}
	return b.payloads.Delete(k)
}

func (b buckets) confirm(refs []Ref) error {
	for _, ref := range refs {
		e, err := b.entry(ref)
		if errors.Is(err, ErrUnknown) || err == nil && (e.Confirmed || e.Phase != Ended) {
			continue
		}
		if err != nil {
			return err
		}
		e.Confirmed = true
		if err := b.putEntry(e); err != nil {
			return err
		}
		if !e.HasOutput {
			continue
		}
		var u tasker.Update
		if err := get(b.reports, key(ref), &u); err != nil {
			return err
		}
		u.Output = nil
		if err := put(b.reports, key(ref), u); err != nil {
			return err
		}
	}
	return nil
}

func (b buckets) drop(refs []Ref) error {
	for _, ref := range refs {
		for _, bucket := range []*bolt.Bucket{b.entries, b.payloads, b.reports} {
			if err := bucket.Delete(key(ref)); err != nil {
				return err
			}
		}
	}
	return nil
}
