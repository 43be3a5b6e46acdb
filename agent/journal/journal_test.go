package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

var deadline = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustOpen(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, journal.Options{LockTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func update(j *journal.Journal, id string, status tasker.ResponseStatus) tasker.Update {
	return tasker.Update{TaskID: id, Type: "ping", Attempt: 1, Seq: j.Seq(), Status: status}
}

func record(j *journal.Journal, id string, status tasker.ResponseStatus) journal.Record {
	return journal.Record{
		Type: "ping",
		Assignment: tasker.Assignment{
			TaskID: id, Identifier: "i-" + id, Attempt: 1, Handler: "ping",
			Payload: json.RawMessage(`{"n":1}`), Deadline: deadline,
		},
		Update: update(j, id, status),
	}
}

func ref(id string) journal.Ref { return journal.Ref{TaskID: id, Attempt: 1} }

func phases(t *testing.T, j *journal.Journal) map[string]journal.Phase {
	t.Helper()
	entries, err := j.Entries()
	must(t, err)
	got := map[string]journal.Phase{}
	for _, e := range entries {
		got[e.TaskID] = e.Phase
	}
	return got
}

func TestLifeOverRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir)
	instance := j.Instance()
	must(t, j.Accept([]journal.Record{record(j, "a", tasker.Received), record(j, "b", tasker.Received), record(j, "c", tasker.Rejected)},
		[]journal.Tombstone{{TaskID: "z", Attempt: 2, Deadline: deadline}}))
	must(t, j.Start(update(j, "a", tasker.Running)))
	process := handlers.Process{PID: 7, StartTime: 8, Cgroup: "/x"}
	must(t, j.AddProcess(ref("a"), process))
	noted := update(j, "a", tasker.Running)
	noted.OutputBytes, noted.Output = 5, []tasker.Chunk{{Data: []byte("hello")}}
	must(t, j.Update(noted))
	lastSeq := noted.Seq
	must(t, j.Close())

	j = mustOpen(t, dir)
	if j.Instance() != instance {
		t.Errorf("instance changed from %s to %s", instance, j.Instance())
	}
	if seq := j.Seq(); seq <= lastSeq {
		t.Errorf("sequence went back from %d to %d", lastSeq, seq)
	}
	entries, err := j.Entries()
	must(t, err)
	if len(entries) != 3 || entries[0].TaskID != "a" || entries[1].TaskID != "b" || entries[2].TaskID != "c" {
		t.Fatalf("entries %+v are not a, b, c", entries)
	}
	a := entries[0]
	if a.Phase != journal.Starting || len(a.Processes) != 1 || a.Processes[0] != process || a.LastUpdate.OutputBytes != 5 || a.LastUpdate.Output != nil {
		t.Errorf("a is %+v", a)
	}
	payload, err := j.Payload(ref("b"))
	must(t, err)
	if string(payload) != `{"n":1}` {
		t.Errorf("payload is %s", payload)
	}
	if entries[2].Phase != journal.Ended {
		t.Errorf("c is %s", entries[2].Phase)
	}
	if _, err := j.Payload(ref("c")); !errors.Is(err, journal.ErrUnknown) {
		t.Errorf("the payload of an ended entry: %v", err)
	}
	stones, err := j.Tombstones()
	must(t, err)
	if diff := cmp.Diff([]journal.Tombstone{{TaskID: "z", Attempt: 2, Deadline: deadline}}, stones); diff != "" {
		t.Error(diff)
	}

	must(t, j.Start(update(j, "a", tasker.Running)))
	entries, err = j.Entries()
	must(t, err)
	if len(entries[0].Processes) != 0 {
		t.Error("a second start kept the processes of the first")
	}
	final := update(j, "a", tasker.Succeeded)
	final.Result, final.Output = json.RawMessage(`{"x":1}`), []tasker.Chunk{{Offset: 3, Data: []byte{0, 255}}}
	must(t, j.End(final))
	must(t, j.End(update(j, "a", tasker.Failed)))
	must(t, j.Update(update(j, "a", tasker.Running)))
	got, err := j.Report(ref("a"))
	must(t, err)
	if diff := cmp.Diff(final, got); diff != "" {
		t.Errorf("the first final report did not stay: %s", diff)
	}
	must(t, j.Confirm(ref("a"), ref("unknown")))
	entries, err = j.Entries()
	must(t, err)
	if !entries[0].Confirmed {
		t.Errorf("a is not confirmed: %+v", entries[0])
	}
	got, err = j.Report(ref("a"))
	must(t, err)
	if got.Output != nil || string(got.Result) != `{"x":1}` {
		t.Errorf("a confirmed report is %+v", got)
	}

	gone, err := j.Sweep(deadline)
	must(t, err)
	if len(gone) != 0 {
		t.Errorf("swept %v at the deadline", gone)
	}
	gone, err = j.Sweep(deadline.Add(time.Nanosecond))
	must(t, err)
	if diff := cmp.Diff([]journal.Ref{ref("a")}, gone); diff != "" {
		t.Errorf("swept: %s", diff)
	}
	stones, err = j.Tombstones()
	must(t, err)
	if len(stones) != 0 {
		t.Errorf("tombstones left: %v", stones)
	}
	if diff := cmp.Diff(map[string]journal.Phase{"b": journal.Accepted, "c": journal.Ended}, phases(t, j)); diff != "" {
		t.Error(diff)
	}
	must(t, j.Close())
}

func TestHeld(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir())
	defer j.Close()
	a, b := record(j, "a", tasker.Received), record(j, "b", tasker.Received)
	a.Held, b.Held, a.Assignment.Deadline = true, true, time.Time{}
	must(t, j.Accept([]journal.Record{a, b}, nil))
	if err := j.Start(update(j, "a", tasker.Running)); !errors.Is(err, journal.ErrUnknown) {
		t.Errorf("a held entry could start: %v", err)
	}
	admitted := update(j, "a", tasker.Received)
	admitted.ReceivedAt = &deadline
	must(t, j.Admit(admitted))
	must(t, j.Drop(ref("b")))
	entries, err := j.Entries()
	must(t, err)
	if len(entries) != 1 || entries[0].Phase != journal.Accepted || !entries[0].Deadline.Equal(deadline) {
		t.Errorf("entries are %+v", entries)
	}
}

func TestAcceptAgainChangesNothing(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir())
	defer j.Close()
	must(t, j.Accept([]journal.Record{record(j, "a", tasker.Received)}, nil))
	must(t, j.Start(update(j, "a", tasker.Running)))
	must(t, j.Accept([]journal.Record{record(j, "a", tasker.Received)}, nil))
	if got := phases(t, j)["a"]; got != journal.Starting {
		t.Errorf("a is %s", got)
	}
}

func TestSecondAgentIsToldSo(t *testing.T) {
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

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "here")
	j := mustOpen(t, dir)
	defer j.Close()
	info, err := os.Stat(filepath.Join(dir, journal.FileName))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
}

// TestUnreadableFiles damages a journal in several ways: each is told apart, and
// none is written to.
func TestUnreadableFiles(t *testing.T) {
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
		{"both heads", overwrite(0, 2*page), journal.ErrCorrupt},
		{"everything but the heads", overwrite(2*page, 1<<30), journal.ErrCorrupt},
		{"cut off", func(t *testing.T, path string) { must(t, os.Truncate(path, int64(2*page))) }, journal.ErrCorrupt},
		{"cut within the heads", func(t *testing.T, path string) { must(t, os.Truncate(path, 100)) }, journal.ErrCorrupt},
		{"an entry", put("entries", "a", "{no json"), journal.ErrCorrupt},
		{"a tombstone", put("tombstones", "a", "{no json"), journal.ErrCorrupt},
		{"format", put("meta", "format", "one"), journal.ErrCorrupt},
		{"epoch", put("meta", "epoch", ""), journal.ErrCorrupt},
		{"a bucket is gone", change(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("reports")) }), journal.ErrCorrupt},
		{"somebody else's", change(func(tx *bolt.Tx) error {
			if _, err := tx.CreateBucket([]byte("theirs")); err != nil {
				return err
			}
			return tx.DeleteBucket([]byte("meta"))
		}), journal.ErrCorrupt},
		{"newer", put("meta", "format", "2"), journal.ErrTooNew},
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
			for range 2 { // the lock is free after a refusal
				_, err = journal.Open(dir, journal.Options{LockTimeout: time.Minute})
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, not %v", err, tt.want)
				}
			}
			t.Log(err)
			after, err := os.ReadFile(path)
			must(t, err)
			if !cmp.Equal(before, after) {
				t.Error("the file was written to")
			}
		})
	}
}

func TestEmptyFileIsANewJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, journal.FileName), nil, 0o600))
	must(t, mustOpen(t, dir).Close())
}

func TestCompactsAtStart(t *testing.T) {
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
		must(t, j.Drop(ref(fmt.Sprint("t", i))))
	}
	before, err := j.Stats()
	must(t, err)
	must(t, j.Close())

	j = mustOpen(t, dir)
	after, err := j.Stats()
	must(t, err)
	if after.Bytes*2 > before.Bytes {
		t.Errorf("%d bytes became %d", before.Bytes, after.Bytes)
	}
	if after.Entries != 1 || j.Instance() != instance {
		t.Errorf("%d entries, instance %s", after.Entries, j.Instance())
	}
	got, err := j.Payload(ref("t9"))
	must(t, err)
	if !cmp.Equal([]byte(payload), []byte(got)) {
		t.Error("the payload that was kept has changed")
	}
	if _, err := journal.Open(dir, journal.Options{LockTimeout: time.Millisecond}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("a compacted journal is not locked: %v", err)
	}
	must(t, j.Accept([]journal.Record{record(j, "more", tasker.Received)}, nil))
	must(t, j.Close())
	j = mustOpen(t, dir)
	defer j.Close()
	if got := phases(t, j); len(got) != 2 {
		t.Errorf("after the next start: %v", got)
	}
}

// Those who write at the same time share transactions, and the fault of one is
// not that of the others.
func TestWritesTogether(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir())
	defer func() { must(t, j.Close()) }()
	const n = 50
	var records []journal.Record
	for i := range n {
		records = append(records, record(j, fmt.Sprint("t", i), tasker.Received))
	}
	must(t, j.Accept(records, nil))
	var work sync.WaitGroup
	failed := make([]error, 2*n)
	for i := range failed {
		work.Go(func() { failed[i] = j.End(update(j, fmt.Sprint("t", i), tasker.Succeeded)) })
	}
	work.Wait()
	for i, err := range failed {
		if known := i < n; known != (err == nil) || !known && !errors.Is(err, journal.ErrUnknown) {
			t.Errorf("t%d: %v", i, err)
		}
	}
	for id, phase := range phases(t, j) {
		if phase != journal.Ended {
			t.Errorf("%s is %s", id, phase)
		}
	}
}
