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

// These tests run in bubbles, in which time passes as fast as nothing happens.

func fakeClock(o *agent.Options) {
	began := time.Now()
	o.Clock = func() time.Duration { return time.Since(began) }
}

func pass(d time.Duration) { <-time.After(d); synctest.Wait() }

func count(w *wire, is func(tasker.Report) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, r := range w.reports {
		if is(r) {
			n++
		}
	}
	return n
}

func isHello(r tasker.Report) bool     { return r.Hello != nil }
func isHeartbeat(r tasker.Report) bool { return r.Heartbeat != nil }

func TestHelloIsRepeatedUntilAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := directWire()
		w.mute = true
		g := newGate("work", "")
		r := start(t, w, t.TempDir(), []handlers.Handler{g}, fakeClock)
		r.order(assign(w, "t1", "work"))
		synctest.Wait()
		if n := count(w, isHello); n != 1 {
			t.Fatalf("%d hellos at first", n)
		}
		// Long enough for chance to even out: the pauses are between 7.5 s and a minute.
		pass(10 * time.Hour)
		n := count(w, isHello)
		if n < 800 || n > 1200 {
			t.Errorf("%d hellos in 10 hours without an answer", n)
		}
		if len(g.started) > 0 || count(w, isHeartbeat) > 0 {
			t.Error("something was started, or a heartbeat sent, without a welcome")
		}
		// A welcome of somebody else's session does not count.
		r.order(tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: "other", Now: time.Now()}})
		synctest.Wait()
		if len(g.started) > 0 {
			t.Error("started after a stale welcome")
		}
		late := w.reports[0]
		w.change(func() { w.mute = false; w.take(late) })
		// The assignment's deadline is counted at its arrival.
		g.next(t)
		synctest.Wait()
		before := count(w, isHello)
		pass(time.Hour / 2)
		if after := count(w, isHello); after != before {
			t.Errorf("%d hellos after the welcome", after-before)
		}
		close(g.pass)
		synctest.Wait()
		must(t, r.stop())
	})
}

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := directWire()
		w.heartbeat = 10 * time.Second
		g := &scripted{gate: newGate("work", "")}
		g.scripts.Store(&[]string{"a"})
		r := start(t, w, t.TempDir(), []handlers.Handler{g}, fakeClock, func(o *agent.Options) {
			o.Labels, o.MetricsAddress = map[string]string{"role": "web"}, "127.0.0.1:9464"
		})
		r.order(assign(w, "t1", "work"))
		pass(1000 * time.Second)
		n := count(w, isHeartbeat)
		if n < 100 || n > 112 {
			t.Errorf("%d heartbeats in 1000 s", n)
		}
		g.scripts.Store(&[]string{"a", "b"})
		pass(11 * time.Second)
		got := last(w).Heartbeat
		if got == nil || got.Version != "1.2.3" || got.Labels["role"] != "web" || got.Metrics != "127.0.0.1:9464" ||
			got.Running != 1 || !slices.Equal(got.Handlers, []string{"work"}) || !slices.Equal(got.Scripts, []string{"a", "b"}) {
			t.Errorf("the last report is %+v", got)
		}
		if got.Heartbeat.D() != 10*time.Second {
			t.Errorf("it says that it sends heartbeats every %s", got.Heartbeat.D())
		}
		// The fleet has grown.
		session := ""
		for _, report := range reported(w) {
			if report.Hello != nil {
				session = report.Hello.Session
			}
		}
		r.order(tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: session, Now: w.time(), Heartbeat: tasker.Duration(100 * time.Second)}})
		pass(time.Second)
		n = count(w, isHeartbeat)
		pass(1000 * time.Second)
		if n = count(w, isHeartbeat) - n; n < 9 || n > 13 {
			t.Errorf("%d heartbeats in 1000 s after it was told 100 s", n)
		}
		if got := last(w).Heartbeat; got == nil || got.Heartbeat.D() != 100*time.Second {
			t.Errorf("the last report is %+v", got)
		}
		close(g.pass)
		must(t, r.stop())
	})
}

// reported is a copy of the reports so far.
func reported(w *wire) []tasker.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reports)
}

type scripted struct {
	*gate
	scripts atomic.Pointer[[]string]
}

func (s *scripted) Scripts() []string { return *s.scripts.Load() }

// TestProgressIsCoalesced reports what a handler says all the time about once
// a second, and its last word always.
func TestProgressIsCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ticks = 2000
		r := start(t, directWire(), t.TempDir(), []handlers.Handler{work("chatty", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			for i := range ticks {
				c.Progress(float64(i)/ticks*100, fmt.Sprint("step ", i))
				fmt.Fprintf(c.Output, "%04d\n", i)
				<-time.After(10 * time.Millisecond)
			}
			return handlers.Result{}, nil
		})}, fakeClock)
		r.order(assign(r.wire, "t1", "chatty"))
		got := r.ended(t, "t1")
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
		if out := r.printed("t1"); len(out) != 5*ticks || out[:5] != "0000\n" || got.OutputBytes != 5*ticks {
			t.Errorf("%d bytes of output, said to be %d", len(out), got.OutputBytes)
		}
		// Each piece of output is sent once, where nothing fails.
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

// TestSweep forgets an assignment an hour after its deadline, not before.
func TestSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate("work", "")
		close(g.pass)
		r := start(t, directWire(), t.TempDir(), []handlers.Handler{g}, fakeClock)
		r.order(assign(r.wire, "t1", "work"), cancel(r.wire, "t2"))
		pass(time.Hour)
		left := func() int {
			entries, err := r.journal.Entries()
			must(t, err)
			stones, err := r.journal.Tombstones()
			must(t, err)
			return len(entries) + len(stones)
		}
		if n := left(); n != 3 {
			t.Errorf("%d entries are left after an hour", n)
		}
		pass(patience + 2*time.Minute)
		if n := left(); n != 0 {
			t.Errorf("%d entries are left an hour after the deadline", n)
		}
		must(t, r.stop())
	})
}

// TestIdle hardly wakes up when there is nothing to do.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := directWire()
		w.heartbeat = 10 * time.Second
		var calls atomic.Int64
		r := start(t, w, t.TempDir(), []handlers.Handler{newGate("work", "")}, func(o *agent.Options) {
			began := time.Now()
			o.Clock = func() time.Duration { calls.Add(1); return time.Since(began) }
		})
		pass(time.Minute)
		before := calls.Load()
		pass(10 * time.Minute)
		if n := calls.Load() - before; n > 20 {
			t.Errorf("the clock was read %d times in 10 idle minutes", n)
		}
		must(t, r.stop())
	})
}
