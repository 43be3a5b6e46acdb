package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestUndo(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("x", "lb-1", "lb-2", "lb-3"))
		f.send(t, 3)
		if _, err := f.UndoTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrUnfinished) {
			t.Errorf("%v, want ErrUnfinished", err)
		}
		started := update("lb-1", task.ID, 1, 1, tasker.Failed)
		now := f.Now()
		started.Update.StartedAt = &now
		f.apply(t, started, update("lb-2", task.ID, 1, 1, tasker.Rejected))
		f.Add(time.Minute)
		f.expire(t, 1)
		f.undoneBy(t, task.ID, "")
		undo, err := f.UndoTask(t.Context(), "ping", "x", "me")
		// lb-3 may have received the order without reporting.
		if err != nil || !slices.Equal(undo.Endpoints, []string{"lb-1", "lb-3"}) || undo.Action != tasker.Undo || undo.Undoes != task.ID || string(undo.Payload) != string(task.Payload) {
			t.Fatalf("undo: %+v, %v", undo, err)
		}
		before, _ := f.task(t, task.ID)
		same, err := f.UndoTask(t.Context(), "ping", "x", "another")
		if err != nil || same.ID != undo.ID {
			t.Errorf("repeated: %s, %v; want %s", same.ID, err, undo.ID)
		}
		controls, err := f.Controls(t.Context(), task.ID)
		if err != nil || len(controls) != 1 || controls[0].Action != "undo" || controls[0].By != "me" {
			t.Errorf("controls are %+v, %v; want one undo by me", controls, err)
		}
		if after, _ := f.task(t, task.ID); after.Version != before.Version {
			t.Errorf("the repetition changed the task from version %d to %d", before.Version, after.Version)
		}
		f.undoneBy(t, task.ID, undo.ID)
		f.undoneBy(t, undo.ID, "")
		if _, err := f.UndoneBy(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
		for _, c := range f.send(t, 2) {
			if a := c.Order.Assignment; c.Order.Version != tasker.ActionVersion || a.Action != tasker.Undo || a.Undoes != task.ID {
				t.Errorf("sent: %+v", c.Order)
			}
		}
		f.create(t, request("never", "lb-4"))
		f.Add(time.Minute)
		f.expire(t, 3)
		if _, err := f.UndoTask(t.Context(), "ping", "never", "me"); !errors.Is(err, store.ErrNothingToUndo) {
			t.Errorf("%v, want ErrNothingToUndo", err)
		}
	})
}

// An undo also covers earlier attempts that started and were not undone, whatever the
// last attempt did.
func TestUndoOfEarlierAttempts(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("x", "lb-1", "lb-2", "lb-3"))
		retry := func(attempt int, sent int) {
			t.Helper()
			_, err := f.RetryTask(t.Context(), "ping", "x", "me")
			must(t, err)
			var reports []tasker.Report
			for _, c := range f.send(t, sent) {
				reports = append(reports, update(c.Endpoint, task.ID, attempt, 1, tasker.Rejected))
			}
			f.apply(t, reports...)
		}
		f.send(t, 3)
		now := f.Now()
		succeeded, failed := update("lb-1", task.ID, 1, 1, tasker.Succeeded), update("lb-2", task.ID, 1, 1, tasker.Failed)
		succeeded.Update.StartedAt, failed.Update.StartedAt = &now, &now
		f.apply(t, succeeded, failed, update("lb-3", task.ID, 1, 1, tasker.Rejected))
		retry(2, 2)
		retry(3, 2)
		undo, err := f.UndoTask(t.Context(), "ping", "x", "me")
		if err != nil || !slices.Equal(undo.Endpoints, []string{"lb-1", "lb-2"}) {
			t.Fatalf("undone on %v, %v; want the endpoints that started an attempt", undo.Endpoints, err)
		}
		f.send(t, 2)
		f.apply(t, update("lb-1", undo.ID, 1, 1, tasker.Succeeded), update("lb-2", undo.ID, 1, 1, tasker.Succeeded))
		retry(4, 3)
		if undo, err := f.UndoTask(t.Context(), "ping", "x", "me"); !errors.Is(err, store.ErrNothingToUndo) {
			t.Errorf("undone again on %v, %v; want ErrNothingToUndo", undo.Endpoints, err)
		}
	})
}

// An agent that fell silent before it reported a start may have started.
func TestUndoCoversUnconfirmedCancels(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("x", "lb-1", "lb-2"))
		f.send(t, 2)
		received, now := update("lb-1", task.ID, 1, 1, tasker.Received), f.Now()
		received.Update.ReceivedAt = &now
		f.apply(t, received)
		f.cancel(t, "x")
		f.Add(2 * time.Hour)
		f.expire(t, 1)
		if _, _, err := f.ExpireSilent(t.Context(), time.Hour, 10); err != nil {
			t.Fatal(err)
		}
		f.want(t, task.ID, tasker.TaskIncomplete, "lb-1", "interrupted", "lb-2", "missing")
		undo, err := f.UndoTask(t.Context(), "ping", "x", "me")
		if err != nil || !slices.Equal(undo.Endpoints, []string{"lb-1", "lb-2"}) {
			t.Errorf("undone on %v, %v", undo.Endpoints, err)
		}
	})
}

// A task that merely has the identifier of an undo task is not one.
func TestUndoIgnoresTasksWithItsIdentifier(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("x", "lb-1"))
		f.send(t, 1)
		failed := update("lb-1", task.ID, 1, 1, tasker.Failed)
		now := f.Now()
		failed.Update.StartedAt = &now
		f.apply(t, failed)
		other := f.create(t, request(tasker.UndoIdentifier(task.ID, 1), "lb-2"))
		f.undoneBy(t, task.ID, "")
		if undo, err := f.UndoTask(t.Context(), "ping", "x", "me"); err == nil {
			t.Errorf("UndoTask returned %s; the task with the identifier is %s", undo.ID, other.ID)
		}
		f.send(t, 1)
		f.apply(t, update("lb-2", other.ID, 1, 1, tasker.Succeeded))
		again, err := f.RetryTask(t.Context(), "ping", "x", "me")
		if err != nil || again.Counts[tasker.Pending] != 1 {
			t.Errorf("retried: %+v, %v", again, err)
		}
	})
}

// undoneBy checks which task undoes the last attempt of a task; empty is none.
func (f *fixture) undoneBy(t *testing.T, id, want string) {
	t.Helper()
	if got, err := f.UndoneBy(t.Context(), id); err != nil || got != want {
		t.Errorf("undone by %q, %v; want %q", got, err, want)
	}
}
