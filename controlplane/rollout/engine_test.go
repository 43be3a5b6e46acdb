package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// gateCall is a check of a gate; the test sends whether the gate passes.
type gateCall struct {
	endpoints []string
	holds     chan<- bool
}

// manualGates passes each check to the test.
type manualGates chan gateCall

func (g manualGates) Check(ctx context.Context, _ tasker.Gate, endpoints []string) (bool, string, error) {
	holds := make(chan bool, 1)
	select {
	case g <- gateCall{endpoints, holds}:
	case <-ctx.Done():
		return false, "", ctx.Err()
	}
	select {
	case holds := <-holds:
		return holds, "by the test", nil
	case <-ctx.Done():
		return false, "", ctx.Err()
	}
}

// next returns the next check.
func (g manualGates) next(t *testing.T) gateCall {
	t.Helper()
	select {
	case q := <-g:
		return q
	case <-time.After(2 * time.Minute): // however slow the machine is
		t.Fatal("the gate is not checked")
		return gateCall{}
	}
}

// startBeforeGate starts an engine and a rollout whose first wave, lb-1, has ended. The
// clock stands still, so nothing becomes due by time.
func startBeforeGate(t *testing.T) (*store.Store, manualGates) {
	t.Helper()
	o := storetest.SQLite(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o.Types, o.Clock = []tasker.TaskType{{Name: "ping", Handler: "ping"}}, func() time.Time { return now }
	s := storetest.Open(t, o)
	gates := make(manualGates)
	e := New(Options{Store: s, Gates: gates, Log: slog.New(slog.DiscardHandler), Poll: time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	var engine sync.WaitGroup
	t.Cleanup(engine.Wait)
	t.Cleanup(stop)
	engine.Go(func() { _ = e.Run(ctx) }) // ends with ctx
	task, _, err := s.CreateTask(ctx, store.NewTask{
		Identifier: "x", Type: "ping", Endpoints: []string{"lb-1", "lb-2"}, ReceiveTimeout: time.Minute,
		Rollout: &tasker.RolloutSpec{Batch: tasker.Amounts{{N: 1}}, Gate: &tasker.Gate{URL: "http://127.0.0.1/"}},
	})
	must(t, err)
	sendTo(t, s, "lb-1")
	_, err = s.Apply(ctx, []tasker.Report{{Version: 1, Endpoint: "lb-1", Update: &tasker.Update{
		TaskID: task.ID, Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Succeeded,
	}}})
	must(t, err)
	return s, gates
}

func TestGateIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	s, gates := startBeforeGate(t)
	q := gates.next(t)
	if len(q.endpoints) != 1 || q.endpoints[0] != "lb-1" {
		t.Errorf("the gate is checked for %v", q.endpoints)
	}
	q.holds <- true
	sendTo(t, s, "lb-2")
}

// The result of a check that began before a pause is void after the resume, even if it
// arrives late.
func TestGateIsCheckedAgainAfterPause(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late result: ", late), func(t *testing.T) {
			t.Parallel()
			s, gates := startBeforeGate(t)
			before := gates.next(t)
			_, err := s.PauseTask(t.Context(), "ping", "x", "me")
			must(t, err)
			if !late {
				before.holds <- false
			}
			_, err = s.ResumeTask(t.Context(), "ping", "x", "me")
			must(t, err)
			after := gates.next(t)
			if late {
				before.holds <- false
			}
			after.holds <- true
			sendTo(t, s, "lb-2")
		})
	}
}

// sendTo waits until one order is due, and sends it.
func sendTo(t *testing.T, s *store.Store, endpoint string) {
	t.Helper()
	var claims []store.Claim
	wait.For(t, "an order to "+endpoint, func() bool {
		var err error
		claims, err = s.ClaimDue(t.Context(), 10)
		must(t, err)
		return len(claims) > 0
	})
	if len(claims) != 1 || claims[0].Endpoint != endpoint {
		t.Fatalf("due are %+v, want an order to %s", claims, endpoint)
	}
	must(t, s.MarkSent(t.Context(), claims))
}
