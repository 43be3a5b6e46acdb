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

// The journal is swept at any moment: also while an assignment is being recorded, the
// place of which is reserved.
func TestWhatIsReservedIsNotSwept(t *testing.T) {
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
	a.setTime(now)
	a.open = true
	p := &plan{a: a, outcomes: map[string]int{}}
	p.order(tasker.Order{
		Version: tasker.WireVersion, Endpoint: "lb-1", Type: "ping",
		Assignment: &tasker.Assignment{TaskID: "t1", Attempt: 1, Handler: "ping", Deadline: now.Add(time.Minute)},
	})
	a.forget(nil, now)
	if task := a.tasks["t1"]; task == nil || !task.busy {
		t.Fatalf("reserved, the task is %+v", task)
	}
	p.giveBack() // as the journal cannot be written
	if len(a.tasks) != 0 || a.count().running != 0 {
		t.Errorf("given back: %d tasks, %d running", len(a.tasks), a.count().running)
	}
}
