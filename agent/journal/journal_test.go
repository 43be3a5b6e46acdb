package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeUntilKilled(dir)
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

func TestEntriesSurviveRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir)
	instance := j.Instance()
	must(t, j.Accept([]journal.Record{record(j, "a", tasker.Received), record(j, "b", tasker.Received), record(j, "c", tasker.Rejected)},
		[]journal.Tombstone{{TaskID: "z", Attempt: 2, Deadline: deadline}}))
	must(t, j.Start(update(j, "a", tasker.Running)))
	process := handlers.Process{PID: 7, StartTime: 8, Cgroup: "/x"}
	must(t, j.AddProcess(ref("a"), process))
	sent := update(j, "a", tasker.Running)
	sent.OutputBytes, sent.Output = 5, []tasker.Chunk{{Data: []byte("hello")}}
	must(t, j.Update(sent))
	lastSeq := sent.Seq
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
	tombstones, err := j.Tombstones()
	must(t, err)
	if diff := cmp.Diff([]journal.Tombstone{{TaskID: "z", Attempt: 2, Deadline: deadline}}, tombstones); diff != "" {
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

	swept, err := j.Sweep(deadline)
	must(t, err)
	if len(swept) != 0 {
		t.Errorf("swept %v at the deadline", swept)
	}
	swept, err = j.Sweep(deadline.Add(time.Nanosecond))
	must(t, err)
	if diff := cmp.Diff([]journal.Ref{ref("a")}, swept); diff != "" {
		t.Errorf("swept: %s", diff)
	}
	tombstones, err = j.Tombstones()
	must(t, err)
	if len(tombstones) != 0 {
		t.Errorf("tombstones left: %v", tombstones)
	}
	if diff := cmp.Diff(map[string]journal.Phase{"b": journal.Accepted, "c": journal.Ended}, phases(t, j)); diff != "" {
		t.Error(diff)
	}
	must(t, j.Close())
}

func TestAdmitHeld(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir())
	defer j.Close()
	a, b := record(j, "a", tasker.Received), record(j, "b", tasker.Received)
	a.Held, b.Held, a.Assignment.Deadline = true, true, time.Time{}
	must(t, j.Accept([]journal.Record{a, b}, nil))
	if err := j.Start(update(j, "a", tasker.Running)); !errors.Is(err, journal.ErrUnknown) {
		t.Errorf("starting a held entry: %v", err)
	}
	admitted := update(j, "a", tasker.Received)
	admitted.ReceivedAt = &deadline
	late := []journal.Ref{ref("b")}
	if err := j.Admit([]tasker.Update{admitted, update(j, "unknown", tasker.Received)}, late); !errors.Is(err, journal.ErrUnknown) {
		t.Errorf("admitting an unknown entry: %v", err)
	}
	if diff := cmp.Diff(map[string]journal.Phase{"a": journal.Held, "b": journal.Held}, phases(t, j)); diff != "" {
		t.Errorf("a failed Admit has changed the journal: %s", diff)
	}
	must(t, j.Admit([]tasker.Update{admitted}, late))
	entries, err := j.Entries()
	must(t, err)
	if len(entries) != 1 || entries[0].Phase != journal.Accepted || !entries[0].Deadline.Equal(deadline) {
		t.Errorf("entries are %+v", entries)
	}
}

func TestAcceptKeepsKnownEntry(t *testing.T) {
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

// Concurrent writes share transactions. One that fails does not affect the others.
func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir())
	defer func() { must(t, j.Close()) }()
	const n = 50
	var records []journal.Record
	for i := range n {
		records = append(records, record(j, fmt.Sprint("t", i), tasker.Received))
	}
	must(t, j.Accept(records, nil))
	var writers sync.WaitGroup
	errs := make([]error, 2*n)
	for i := range errs {
		writers.Go(func() { errs[i] = j.End(update(j, fmt.Sprint("t", i), tasker.Succeeded)) })
	}
	writers.Wait()
	for i, err := range errs {
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
