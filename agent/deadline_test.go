package agent_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// The clock of the control plane differs from that of this machine.
func TestDeadlineIsInControlPlaneTime(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"behind": -50 * 365 * 24 * time.Hour, "equal": 0, "ahead": 50 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cp := newDirectControlPlane()
			cp.time = func() time.Time { return time.Now().Add(skew) }
			cp.ignoreHellos = true
			// These arrive before the agent knows the time, and are held.
			good, bad, doomed := assign(cp, "good", "deploy"), assign(cp, "bad", "deploy"), assign(cp, "doomed", "deploy")
			// The agent's clock is late by the latency of the welcome.
			bad.Assignment.Deadline = cp.time().Add(-testTimeout)
			cp.batches = append(cp.batches, []tasker.Order{good, bad, good, doomed}, []tasker.Order{cancel(cp, "doomed")})
			blocking := newBlocking("deploy", "")
			close(blocking.release)
			r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking})
			r.wait(t, "the orders to be received", func() bool { return len(r.batches) == 0 })
			r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
			if len(blocking.started) > 0 || r.response("good", 1).Status != "" {
				t.Fatal("something happened before the welcome")
			}
			r.change(func() {
				cp.ignoreHellos = false
				cp.apply(r.reports[0])
			})
			got := r.waitEnded(t, "good")
			if got.Status != tasker.Succeeded || got.ReceivedAt.Sub(cp.time()).Abs() > time.Hour {
				t.Errorf("good: %+v", got)
			}
			if got := r.waitEnded(t, "doomed"); got.Status != tasker.Cancelled {
				t.Errorf("doomed: %+v", got)
			}
			late := assign(cp, "late", "deploy")
			late.Assignment.Deadline = cp.time().Add(-testTimeout)
			r.deliver(late, assign(cp, "after", "deploy"))
			r.waitEnded(t, "after")
			for _, id := range []string{"bad", "late"} {
				if got := r.updates(id); len(got) > 0 {
					t.Errorf("%s: %+v", id, got)
				}
			}
			entries, err := r.journal.Entries()
			must(t, err)
			for _, e := range entries {
				if e.TaskID == "bad" || e.TaskID == "late" {
					t.Errorf("%s is in the journal", e.TaskID)
				}
			}
		})
	}
}

// The control plane's clock is set back while the agent is connected, so later assignments
// appear to be late. The agent drops them and sends a hello to request the time. After the
// hello the control plane sends them again.
func TestControlPlaneClockIsSetBack(t *testing.T) {
	t.Parallel()
	var back atomic.Int64
	cp := newDirectControlPlane()
	cp.time = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	blocking := newBlocking("deploy", "")
	close(blocking.release)
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking})
	r.deliver(assign(cp, "before", "deploy"))
	r.waitEnded(t, "before")
	back.Store(int64(time.Hour))
	r.deliver(assign(cp, "t1", "deploy"), assign(cp, "t2", "deploy"))
	hellos := func() (n int) {
		for _, report := range r.reports {
			if report.Hello != nil {
				n++
			}
		}
		return n
	}
	r.wait(t, "another hello and its welcome", func() bool { return hellos() == 2 && len(r.batches) == 0 })
	r.deliver(assign(cp, "t1", "deploy"))
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Succeeded {
		t.Errorf("%+v", got)
	}
	// Another late assignment soon after causes no further hello.
	late := assign(cp, "late", "deploy")
	late.Assignment.Deadline = cp.time().Add(-time.Minute)
	r.deliver(late)
	r.deliver(assign(cp, "after", "deploy"))
	r.waitEnded(t, "after")
	r.change(func() {
		if n := hellos(); n != 2 {
			t.Errorf("%d hellos", n)
		}
	})
}

// A network that holds welcomes and orders back does not move a deadline: an assignment
// never starts after it by the control plane's clock.
func TestDelayedWelcomeDoesNotMoveDeadlines(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// delay is how long the welcome and the order are held back.
		delay, deadline time.Duration
		runs            bool
	}{
		"order in time":                              {5 * time.Second, 30 * time.Second, true},
		"deadline passes meanwhile":                  {8 * time.Second, 7 * time.Second, false},
		"long delay, deadline passes meanwhile":      {50 * time.Second, 30 * time.Second, false},
		"long delay, order in time":                  {50 * time.Second, 90 * time.Second, true},
		"very long delay, deadline passes meanwhile": {time.Hour, time.Minute, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cp := newDirectControlPlane()
				cp.ignoreHellos = true
				blocking := newBlocking("deploy", "")
				close(blocking.release)
				r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, fakeClock)
				synctest.Wait()
				hello := cp.reports[0].Hello
				welcome := tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: hello.Session, Now: cp.time()}}
				order := assign(cp, "held", "deploy")
				order.Assignment.Deadline = cp.time().Add(tt.deadline)
				cp.change(func() { cp.ignoreHellos = false })
				advance(tt.delay)
				r.deliver(welcome)
				r.deliver(order)
				advance(time.Second)
				if started := len(blocking.started) > 0; started != tt.runs {
					t.Errorf("started: %t, want %t", started, tt.runs)
				}
				r.deliver(assign(cp, "later", "deploy"))
				if got := r.waitEnded(t, "later"); got.Status != tasker.Succeeded {
					t.Errorf("a later task: %+v", got)
				}
				must(t, r.stop())
			})
		})
	}
}
