package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestCreateTask(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a-1", "lb-2", "lb-1"))
		now := f.Now()
		want := tasker.Task{
			ID: task.ID, Identifier: "a-1", Type: "ping", Payload: []byte(`{"foo":"bar"}`), Endpoints: []string{"lb-2", "lb-1"},
			Status: "pending", Counts: tasker.Counts{"pending": 2}, CreatedAt: now,
			ReceiveTimeout: tasker.Duration(30 * time.Second), ReceiveDeadline: now.Add(30 * time.Second),
			Timeout: tasker.Duration(time.Minute), Version: 1,
		}
		if diff := cmp.Diff(want, task); diff != "" {
			t.Errorf("created task (-want +got):\n%s", diff)
		}
		for _, ref := range []string{task.ID, "a-1"} {
			got, err := f.Task(t.Context(), "ping", ref)
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Task(%s) (-want +got):\n%s", ref, diff)
			}
		}
		f.want(t, task.ID, "pending", "lb-1", "pending", "lb-2", "pending")
		if diff := cmp.Diff([]store.Commit{{Tasks: []string{task.ID}, Due: true}}, f.newCommits()); diff != "" {
			t.Errorf("OnCommit (-want +got):\n%s", diff)
		}
		for _, ref := range []string{"nobody", "\xff", "", "a/b"} {
			if _, err := f.Task(t.Context(), "ping", ref); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Task(%q) = %v, want ErrNotFound", ref, err)
			}
		}
		if _, err := f.Task(t.Context(), "update", task.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a task of another type = %v, want ErrNotFound", err)
		}
		if _, _, err := f.CreateTask(t.Context(), store.NewTask{Identifier: "x", Type: "ping", Endpoints: []string{}}); err == nil {
			t.Error("a task without endpoints was created")
		}
		n := request("no-payload", "lb-1")
		n.Payload = nil
		if got := f.create(t, n); string(got.Payload) != "{}" {
			t.Errorf("an omitted payload is %s, want {}", got.Payload)
		}
	})
}

func TestCreateRepeated(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first := f.create(t, request("same", "lb-1"))
		again, created, err := f.CreateTask(t.Context(), request("same", "lb-1"))
		if err != nil || created {
			t.Fatalf("the same request = %v, %v; want the stored task", created, err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("the same request (-first +again):\n%s", diff)
		}
		if _, _, err := f.CreateTask(t.Context(), request("same", "lb-1", "lb-2")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("another body = %v, want ErrConflict", err)
		}
		other := request("same", "lb-1")
		other.Type = "update"
		f.create(t, other)
	})
}

// Identifiers are compared as bytes: identifiers that a collation would treat as equal
// are different tasks.
func TestIdentifiersAreBytes(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for _, id := range []string{"abc", "ABC", "abc ", " abc", "é", "e\u0301", "straße", "strasse", "a%", "a_", `a\`, "a'", "\U0001f600", "0", "00"} {
			task := f.create(t, request(id, "lb-1"))
			got, err := f.Task(t.Context(), "ping", id)
			must(t, err)
			if got.ID != task.ID || got.Identifier != id {
				t.Errorf("Task(%q) is %q", id, got.Identifier)
			}
		}
	})
}

func TestConcurrentCreateOfOneIdentifier(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var created, conflicts atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				n := request("race", "lb-1", "lb-2")
				n.Fingerprint = sha256.Sum256([]byte{byte(i % 2)})
				_, isNew, err := f.CreateTask(t.Context(), n)
				switch {
				case errors.Is(err, store.ErrConflict):
					conflicts.Add(1)
				case err != nil:
					t.Errorf("CreateTask: %v", err)
				case isNew:
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 || conflicts.Load() != 4 {
			t.Errorf("%d created and %d conflicts, want 1 and 4", created.Load(), conflicts.Load())
		}
	})
}

func TestCreateWithManyEndpoints(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		names := make([]string, 10_000)
		for i := range names {
			names[i] = fmt.Sprintf("ep-%05d", i)
		}
		n := request("many", names...)
		n.ReceiveTimeout = time.Hour
		task := f.create(t, n)
		got, responses := f.task(t, task.ID)
		if len(responses) != len(names) || got.Counts[tasker.Pending] != len(names) {
			t.Errorf("%d responses, counts %v", len(responses), got.Counts)
		}
		f.send(t, 1000)
		_, err := f.CancelTask(t.Context(), "ping", "many", "somebody")
		must(t, err)
		got, _ = f.task(t, task.ID)
		if got.Counts[tasker.Sent] != 1000 || got.Counts[tasker.Cancelled] != len(names)-1000 || got.CancelRequestedBy != "somebody" {
			t.Errorf("after the cancel: counts %v, by %q", got.Counts, got.CancelRequestedBy)
		}
	})
}

func TestTasksList(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var ids []string // newest first
		for i := range 25 {
			ids = append([]string{f.create(t, request(fmt.Sprintf("t-%d", i), "lb-1")).ID}, ids...)
		}
		_, err := f.CancelTask(t.Context(), "ping", "t-3", "")
		must(t, err)
		list := func(q store.TaskQuery) (got []string) {
			for {
				page, err := f.Tasks(t.Context(), q)
				must(t, err)
				if len(page.Tasks) > q.Limit {
					t.Fatalf("a page of %d, limit is %d", len(page.Tasks), q.Limit)
				}
				for _, task := range page.Tasks {
					got = append(got, task.ID)
				}
				if q.Cursor = page.Next; q.Cursor == "" {
					return got
				}
			}
		}
		if diff := cmp.Diff(ids, list(store.TaskQuery{Type: "ping", Limit: 10})); diff != "" {
			t.Errorf("all (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ids, list(store.TaskQuery{Type: "ping", Limit: 25})); diff != "" {
			t.Errorf("all in one page (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ids[21:22], list(store.TaskQuery{Type: "ping", Status: "cancelled", Limit: 5})); diff != "" {
			t.Errorf("cancelled (-want +got):\n%s", diff)
		}
		if got := list(store.TaskQuery{Type: "ping", Status: "pending", Limit: 7}); len(got) != 24 {
			t.Errorf("%d pending, want 24", len(got))
		}
		if got := list(store.TaskQuery{Type: "update", Limit: 7}); len(got) != 0 {
			t.Errorf("%d of another type", len(got))
		}
		for _, cursor := range []string{"%%%", "", "AAAA"} {
			_, err := f.Tasks(t.Context(), store.TaskQuery{Type: "ping", Cursor: cursor})
			if (cursor != "") != errors.Is(err, store.ErrCursor) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	})
}
