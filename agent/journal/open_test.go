package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

func TestOpenFailsWhileLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir)
	_, err := journal.Open(dir, journal.Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, journal.ErrLocked) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	must(t, j.Close())
	j = mustOpen(t, dir)
	must(t, j.Close())
}

func TestFileIsReadableByOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "directory")
	j := mustOpen(t, dir)
	defer j.Close()
	info, err := os.Stat(filepath.Join(dir, journal.FileName))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
}

// A damaged file is recognised, and not changed.
func TestOpenRefusesDamagedFiles(t *testing.T) {
	t.Parallel()
	fill := func(size int, b byte) []byte {
		data := make([]byte, size)
		for i := range data {
			data[i] = b
		}
		return data
	}
	change := func(edit func(tx *bolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db, err := bolt.Open(path, 0o600, nil)
			must(t, err)
			must(t, db.Update(edit))
			must(t, db.Close())
		}
	}
	put := func(bucket, k, v string) func(*testing.T, string) {
		return change(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(k), []byte(v)) })
	}
	overwrite := func(from, to int) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			must(t, err)
			copy(data[from:min(to, len(data))], fill(len(data), 0xa5))
			must(t, os.WriteFile(path, data, 0o600))
		}
	}
	page := os.Getpagesize()
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
		want   error
	}{
		{"garbage", func(t *testing.T, path string) { must(t, os.WriteFile(path, fill(3*page, 'x'), 0o600)) }, journal.ErrCorrupt},
		{"a few bytes", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("hello"), 0o600)) }, journal.ErrCorrupt},
		{"both meta pages", overwrite(0, 2*page), journal.ErrCorrupt},
		{"all but the meta pages", overwrite(2*page, 1<<30), journal.ErrCorrupt},
		{"truncated", func(t *testing.T, path string) { must(t, os.Truncate(path, int64(2*page))) }, journal.ErrCorrupt},
		{"truncated meta page", func(t *testing.T, path string) { must(t, os.Truncate(path, 100)) }, journal.ErrCorrupt},
		{"invalid entry", put("entries", "a", "{invalid"), journal.ErrCorrupt},
		{"invalid tombstone", put("tombstones", "a", "{invalid"), journal.ErrCorrupt},
		{"invalid format", put("meta", "format", "one"), journal.ErrCorrupt},
		{"invalid epoch", put("meta", "epoch", ""), journal.ErrCorrupt},
		{"missing bucket", change(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("reports")) }), journal.ErrCorrupt},
		{"file of another program", change(func(tx *bolt.Tx) error {
			if _, err := tx.CreateBucket([]byte("other")); err != nil {
				return err
			}
			return tx.DeleteBucket([]byte("meta"))
		}), journal.ErrCorrupt},
		{"newer format", put("meta", "format", "2"), journal.ErrTooNew},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, journal.FileName)
			j := mustOpen(t, dir)
			var many []journal.Record
			for i := range 200 {
				many = append(many, record(j, fmt.Sprint("t", i), tasker.Received))
			}
			must(t, j.Accept(many, nil))
			must(t, j.Close())
			tt.damage(t, path)
			before, err := os.ReadFile(path)
			must(t, err)
			for range 2 { // a refusal unlocks the file
				_, err = journal.Open(dir, journal.Options{LockTimeout: time.Minute})
				if !errors.Is(err, tt.want) {
					t.Fatalf("Open = %v, want %v", err, tt.want)
				}
			}
			t.Log(err)
			after, err := os.ReadFile(path)
			must(t, err)
			if !cmp.Equal(before, after) {
				t.Error("the file has changed")
			}
		})
	}
}

func TestOpenEmptyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, journal.FileName), nil, 0o600))
	must(t, mustOpen(t, dir).Close())
}

func TestOpenCompacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir)
	instance := j.Instance()
	payload, err := json.Marshal(string(make([]byte, 100_000)))
	must(t, err)
	var big []journal.Record
	for i := range 10 {
		r := record(j, fmt.Sprint("t", i), tasker.Received)
		r.Assignment.Payload = payload
		big = append(big, r)
	}
	must(t, j.Accept(big, nil))
	for i := range 9 {
		must(t, j.Admit(nil, []journal.Ref{ref(fmt.Sprint("t", i))}))
	}
	before, err := j.Stats()
	must(t, err)
	must(t, j.Close())

	j = mustOpen(t, dir)
	after, err := j.Stats()
	must(t, err)
	if after.Bytes*2 > before.Bytes {
		t.Errorf("compacted from %d to %d bytes", before.Bytes, after.Bytes)
	}
	if after.Entries != 1 || j.Instance() != instance {
		t.Errorf("%d entries, instance %s", after.Entries, j.Instance())
	}
	got, err := j.Payload(ref("t9"))
	must(t, err)
	if !cmp.Equal([]byte(payload), []byte(got)) {
		t.Error("the payload has changed")
	}
	if _, err := journal.Open(dir, journal.Options{LockTimeout: time.Millisecond}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("a compacted journal is not locked: %v", err)
	}
	must(t, j.Accept([]journal.Record{record(j, "more", tasker.Received)}, nil))
	must(t, j.Close())
	j = mustOpen(t, dir)
	defer j.Close()
	if got := phases(t, j); len(got) != 2 {
		t.Errorf("after the next opening: %v", got)
	}
}
