package agent_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// These tests run with the fake clock of synctest.

func fakeClock(o *agent.Options) {
	began := time.Now()
	o.Clock = func() time.Duration { return time.Since(began) }
}

// advance lets time pass.
func advance(d time.Duration) { <-time.After(d); synctest.Wait() }

func count(cp *controlPlane, is func(tasker.Report) bool) int {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	n := 0
	for _, r := range cp.reports {
		if is(r) {
			n++
		}
	}
	return n
}

func isHello(r tasker.Report) bool     { return r.Hello != nil }
func isHeartbeat(r tasker.Report) bool { return r.Heartbeat != nil }

func TestHelloIsRepeatedUntilWelcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cp := newDirectControlPlane()
		cp.ignoreHellos = true
		blocking := newBlocking("deploy", "")
		r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, fakeClock)
		r.deliver(assign(cp, "t1", "deploy"))
		synctest.Wait()
		if n := count(cp, isHello); n != 1 {
			t.Fatalf("%d hellos at first", n)
		}
		// Long enough for an average: the random pauses are 7.5 s to one minute.
		advance(10 * time.Hour)
		n := count(cp, isHello)
		if n < 800 || n > 1200 {
			t.Errorf("%d hellos in 10 hours without an answer", n)
		}
		if len(blocking.started) > 0 || count(cp, isHeartbeat) > 0 {
			t.Error("something was started, or a heartbeat sent, without a welcome")
		}
		// A welcome of another session is ignored.
		r.deliver(tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: "other", Now: time.Now()}})
		synctest.Wait()
		if len(blocking.started) > 0 {
			t.Error("started after a stale welcome")
		}
		late := cp.reports[0]
		cp.change(func() { cp.ignoreHellos = false; cp.apply(late) })
		// The deadline is compared with the time of the assignment's arrival.
		blocking.nextStarted(t)
		synctest.Wait()
		before := count(cp, isHello)
		advance(time.Hour / 2)
		if after := count(cp, isHello); after != before {
			t.Errorf("%d hellos after the welcome", after-before)
		}
		close(blocking.release)
		synctest.Wait()
		must(t, r.stop())
	})
}

func TestHeartbeatsFollowTheWelcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cp := newDirectControlPlane()
		cp.heartbeat = 10 * time.Second
		blocking := &scripted{blockingHandler: newBlocking("deploy", "")}
		blocking.scripts.Store(&[]string{"a"})
		r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, fakeClock, func(o *agent.Options) {
			o.Labels, o.MetricsAddress = map[string]string{"role": "web"}, func(context.Context) string { return "127.0.0.1:9464" }
		})
		r.deliver(assign(cp, "t1", "deploy"))
		advance(1000 * time.Second)
		n := count(cp, isHeartbeat)
		if n < 100 || n > 112 {
			t.Errorf("%d heartbeats in 1000 s", n)
		}
		blocking.scripts.Store(&[]string{"a", "b"})
		advance(11 * time.Second)
		got := last(cp).Heartbeat
		if got == nil || got.Version != "1.2.3" || got.Labels["role"] != "web" || got.Metrics != "127.0.0.1:9464" ||
			got.Running != 1 || !slices.Equal(got.Handlers, []string{"deploy"}) || !slices.Equal(got.Scripts, []string{"a", "b"}) {
			t.Errorf("the last report is %+v", got)
		}
		if got.Heartbeat.D() != 10*time.Second {
			t.Errorf("the reported heartbeat interval is %s", got.Heartbeat.D())
		}
		// The control plane lengthens the interval.
		session := ""
		for _, report := range reports(cp) {
			if report.Hello != nil {
				session = report.Hello.Session
			}
		}
		r.deliver(tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: session, Now: cp.time(), Heartbeat: tasker.Duration(100 * time.Second)}})
		advance(time.Second)
		n = count(cp, isHeartbeat)
		advance(1000 * time.Second)
		if n = count(cp, isHeartbeat) - n; n < 9 || n > 13 {
			t.Errorf("%d heartbeats in 1000 s with an interval of 100 s", n)
		}
		if got := last(cp).Heartbeat; got == nil || got.Heartbeat.D() != 100*time.Second {
			t.Errorf("the last report is %+v", got)
		}
		close(blocking.release)
		must(t, r.stop())
	})
}

// reports returns a copy of the reports so far.
func reports(cp *controlPlane) []tasker.Report {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return slices.Clone(cp.reports)
}

// scripted is a handler with scripts.
type scripted struct {
	*blockingHandler
	scripts atomic.Pointer[[]string]
}

func (s *scripted) Scripts() []string { return *s.scripts.Load() }

// Frequent progress is reported about once a second, and the last progress always.
func TestProgressIsCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ticks = 2000
		r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{handlerFunc("chatty", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			for i := range ticks {
				c.Progress(float64(i)/ticks*100, fmt.Sprint("step ", i))
				fmt.Fprintf(c.Output, "%04d\n", i)
				<-time.After(10 * time.Millisecond)
			}
			return handlers.Result{}, nil
		})}, fakeClock)
		r.deliver(assign(r.controlPlane, "t1", "chatty"))
		got := r.waitEnded(t, "t1")
		synctest.Wait()
		if got.Progress == nil || got.Progress.Message != fmt.Sprint("step ", ticks-1) {
			t.Errorf("the last progress is %+v", got.Progress)
		}
		us := r.updates("t1")
		if len(us) < 15 || len(us) > 25 {
			t.Errorf("%d updates in 20 s", len(us))
		}
		var want []tasker.ResponseStatus
		for _, s := range []tasker.ResponseStatus{tasker.Received, tasker.Running, tasker.Succeeded} {
			if slices.Contains(statuses(us), s) {
				want = append(want, s)
			}
		}
		if !slices.Equal(statuses(us), want) {
			t.Errorf("statuses were %v", statuses(us))
		}
		if out := r.outputOf("t1"); len(out) != 5*ticks || out[:5] != "0000\n" || got.OutputBytes != 5*ticks {
			t.Errorf("%d bytes of output, reported as %d", len(out), got.OutputBytes)
		}
		// Without failures every byte is sent once.
		n := 0
		for _, u := range us {
			for _, c := range u.Output {
				n += len(c.Data)
			}
		}
		if n != 5*ticks {
			t.Errorf("%d bytes were sent for an output of %d", n, 5*ticks)
		}
		must(t, r.stop())
	})
}

func TestSweepOneHourAfterDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocking := newBlocking("deploy", "")
		close(blocking.release)
		r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{blocking}, fakeClock)
		r.deliver(assign(r.controlPlane, "t1", "deploy"), cancel(r.controlPlane, "t2"))
		advance(time.Hour)
		left := func() int {
			entries, err := r.journal.Entries()
			must(t, err)
			tombstones, err := r.journal.Tombstones()
			must(t, err)
			return len(entries) + len(tombstones)
		}
		if n := left(); n != 3 {
			t.Errorf("%d entries are left after an hour", n)
		}
		advance(testTimeout + 2*time.Minute)
		if n := left(); n != 0 {
			t.Errorf("%d entries are left an hour after the deadline", n)
		}
		must(t, r.stop())
	})
}

// An idle agent rarely wakes up.
func TestIdleAgentRarelyWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cp := newDirectControlPlane()
		cp.heartbeat = 10 * time.Second
		var calls atomic.Int64
		r := startAgent(t, cp, t.TempDir(), []handlers.Handler{newBlocking("deploy", "")}, func(o *agent.Options) {
			began := time.Now()
			o.Clock = func() time.Duration { calls.Add(1); return time.Since(began) }
		})
		advance(time.Minute)
		before := calls.Load()
		advance(10 * time.Minute)
		if n := calls.Load() - before; n > 20 {
			t.Errorf("the clock was read %d times in 10 idle minutes", n)
		}
		must(t, r.stop())
	})
}
