package agent_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// stopping begins to stop the agent and returns the wait for its end.
func stopping(r *rig) func() error {
	done := make(chan error, 1)
	go func() { done <- r.stop() }()
	return func() error { return <-done }
}

func last(r *wire) tasker.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports[len(r.reports)-1]
}

// lines are what a logger writes; what exceeds the buffer is dropped.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

// TestGracefulStop lets what runs come to its end, and keeps what waits.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate("work", "")
		said := make(lines, 100)
		r := start(t, directWire(), t.TempDir(), []handlers.Handler{g}, fakeClock, func(o *agent.Options) {
			o.Concurrency, o.StopTimeout = 1, patience
			o.Log = slog.New(slog.NewTextHandler(said, nil))
		})
		r.order(assign(r.wire, "runs", "work"), assign(r.wire, "waits", "work"))
		g.next(t)
		r.reached(t, "waits", tasker.Received)
		wait := stopping(r)
		for line := range said {
			if strings.Contains(line, "agent is stopping") {
				break
			}
		}
		close(g.pass)
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if got := r.row("runs", 1); got.Status != tasker.Succeeded {
			t.Errorf("runs: %+v", got)
		}
		if got := r.row("waits", 1); got.Status != tasker.Received {
			t.Errorf("waits: %+v", got)
		}
		if last(r.wire).Goodbye == nil {
			t.Errorf("the last word is %+v", last(r.wire))
		}
		r = start(t, directWire(), r.dir, []handlers.Handler{g}, fakeClock)
		if got := r.ended(t, "waits"); got.Status != tasker.Succeeded || g.next(t) != "waits" {
			t.Errorf("at the next start: %+v", got)
		}
		must(t, r.stop())
	})
}

// TestStopEndsWhatRuns ends handlers that are not done in time, by contract; a
// cancel still gets through meanwhile.
func TestStopEndsWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never, resume := newGate("never", handlers.RestartNever), newGate("resume", handlers.RestartResume)
		hs := []handlers.Handler{never, resume}
		const stopTimeout = 20 * time.Second
		r := start(t, directWire(), t.TempDir(), hs, fakeClock, func(o *agent.Options) { o.StopTimeout = stopTimeout })
		r.order(assign(r.wire, "n", "never"), assign(r.wire, "c", "never"), assign(r.wire, "r", "resume"))
		never.next(t)
		never.next(t)
		resume.next(t)
		r.reached(t, "r", tasker.Running)
		began := time.Now()
		wait := stopping(r)
		r.order(cancel(r.wire, "c"))
		if got := r.ended(t, "c"); got.Status != tasker.Cancelled || time.Since(began) > 0 {
			t.Errorf("c after %s: %+v", time.Since(began), got)
		}
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != stopTimeout {
			t.Errorf("the stop took %s", waited)
		}
		if got := r.row("n", 1); got.Status != tasker.Interrupted || got.Reason != "agent was stopped" {
			t.Errorf("n: %+v", got)
		}
		if got := r.row("r", 1); got.Status != tasker.Running {
			t.Errorf("r: %+v", got)
		}
		close(resume.pass)
		r = start(t, directWire(), r.dir, hs, fakeClock)
		if got := r.ended(t, "r"); got.Status != tasker.Succeeded || string(got.Result) != `{"attempt":1,"resumed":true}` {
			t.Errorf("r at the next start: %+v %s", got, got.Result)
		}
		must(t, r.stop())
	})
}

// TestStopWithoutLink ends in time and keeps the reports.
func TestStopWithoutLink(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := simple(t, g)
	r.order(assign(r.wire, "t1", "work"))
	g.next(t)
	r.change(func() { r.down = true })
	close(g.pass)
	waitFor(t, "it to have ended", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return len(entries) == 1 && entries[0].Phase == journal.Ended
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, newWire(), r.dir, []handlers.Handler{g})
	if got := r.ended(t, "t1"); got.Status != tasker.Succeeded {
		t.Errorf("t1: %+v", got)
	}
	if hello := reported(r.wire)[0].Hello; len(hello.Unfinished) != 1 || hello.Unfinished[0].TaskID != "t1" {
		t.Errorf("hello: %+v", hello)
	}
}

// TestLinkGivesUp stops the agent with the reason.
func TestLinkGivesUp(t *testing.T) {
	t.Parallel()
	w := directWire()
	r := start(t, w, t.TempDir(), []handlers.Handler{newGate("work", "")})
	r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
	must(t, w.Close())
	<-r.exited
	if err := r.stop(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]agent.Options{
		"no link": {Endpoint: endpoint},
		"name":    {Endpoint: "Not A Name"},
	} {
		if _, err := agent.New(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The agent has to end an assignment that was cancelled while it did not run, but cannot
// write to its journal.
func TestStopWhileJournalFailsAtStart(t *testing.T) {
	t.Parallel()
	w := directWire()
	w.mute = true
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	o := assign(w, "t1", "work")
	must(t, j.Accept(
		[]journal.Record{{Type: "work", Assignment: *o.Assignment, Update: tasker.Update{
			TaskID: "t1", Type: "work", Attempt: 1, Seq: j.Seq(), Status: tasker.Received,
		}}},
		[]journal.Tombstone{{TaskID: "t1", Attempt: 1, Deadline: o.Assignment.Deadline}}))
	must(t, j.Close())
	logged := make(lines, 100)
	r := start(t, w, dir, []handlers.Handler{newGate("work", "")}, func(o *agent.Options) {
		o.Log = slog.New(slog.NewTextHandler(logged, nil))
	})
	r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
	must(t, r.journal.Close())
	r.change(func() {
		w.mute = false
		w.take(r.reports[0])
	})
	for line := range logged {
		if strings.Contains(line, "cannot write to the journal") {
			break
		}
	}
	wait := stopping(r)
	select {
	case <-r.exited:
	case <-time.After(patience):
		t.Fatal("the agent does not stop")
	}
	_ = wait()
}
