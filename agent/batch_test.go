package agent

import (
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ping"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// A sweep may happen while an assignment with a reserved slot is being recorded.
func TestSweepKeepsReservedSlot(t *testing.T) {
	t.Parallel()
	mux, err := handlers.NewMux(ping.New())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	a, err := New(Options{Endpoint: "lb-1", Link: struct{ transport.Link }{}, Journal: j, Handlers: mux})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a.clock.set(now, 0)
	a.scheduler.open(t.Context())
	b := &batch{receiver: a.receiver, outcomes: map[string]int{}}
	b.add(tasker.Order{
		Version: tasker.WireVersion, Endpoint: "lb-1", Type: "ping",
		Assignment: &tasker.Assignment{TaskID: "t1", Attempt: 1, Handler: "ping", Deadline: now.Add(time.Minute)},
	})
	a.registry.forget(nil, now)
	if task := a.registry.tasks["t1"]; task == nil || !task.running {
		t.Fatalf("after the reservation the task is %+v", task)
	}
	b.release() // as if the journal could not be written
	if running, _ := a.scheduler.counts(); len(a.registry.tasks) != 0 || running != 0 {
		t.Errorf("after the release: %d tasks, %d running", len(a.registry.tasks), running)
	}
}
