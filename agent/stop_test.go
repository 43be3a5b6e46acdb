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

// stopInBackground begins to stop the agent, and returns a function that waits for its end.
func stopInBackground(r *runningAgent) func() error {
	done := make(chan error, 1)
	go func() { done <- r.stop() }()
	return func() error { return <-done }
}

// last returns the last report.
func last(r *controlPlane) tasker.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports[len(r.reports)-1]
}

// logLines receives the lines of a logger, and drops them when it is full.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

// A stop waits for running assignments, and keeps waiting ones for the next start.
func TestStopWaitsForRunningAssignments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocking := newBlocking("deploy", "")
		logged := make(logLines, 100)
		r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{blocking}, fakeClock, func(o *agent.Options) {
			o.Concurrency, o.StopTimeout = 1, testTimeout
			o.Log = slog.New(slog.NewTextHandler(logged, nil))
		})
		r.deliver(assign(r.controlPlane, "runs", "deploy"), assign(r.controlPlane, "waits", "deploy"))
		blocking.nextStarted(t)
		r.waitStatus(t, "waits", tasker.Received)
		wait := stopInBackground(r)
		for line := range logged {
			if strings.Contains(line, "agent is stopping") {
				break
			}
		}
		close(blocking.release)
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if got := r.response("runs", 1); got.Status != tasker.Succeeded {
			t.Errorf("runs: %+v", got)
		}
		if got := r.response("waits", 1); got.Status != tasker.Received {
			t.Errorf("waits: %+v", got)
		}
		if last(r.controlPlane).Goodbye == nil {
			t.Errorf("the last report is %+v", last(r.controlPlane))
		}
		r = startAgent(t, newDirectControlPlane(), r.dir, []handlers.Handler{blocking}, fakeClock)
		if got := r.waitEnded(t, "waits"); got.Status != tasker.Succeeded || blocking.nextStarted(t) != "waits" {
			t.Errorf("at the next start: %+v", got)
		}
		must(t, r.stop())
	})
}

// A stop interrupts handlers after StopTimeout, by their restart contracts. A cancel is
// effective meanwhile.
func TestStopInterruptsAfterTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never, resume := newBlocking("never", handlers.RestartNever), newBlocking("resume", handlers.RestartResume)
		hs := []handlers.Handler{never, resume}
		const stopTimeout = 20 * time.Second
		r := startAgent(t, newDirectControlPlane(), t.TempDir(), hs, fakeClock, func(o *agent.Options) { o.StopTimeout = stopTimeout })
		r.deliver(assign(r.controlPlane, "n", "never"), assign(r.controlPlane, "c", "never"), assign(r.controlPlane, "r", "resume"))
		never.nextStarted(t)
		never.nextStarted(t)
		resume.nextStarted(t)
		r.waitStatus(t, "r", tasker.Running)
		began := time.Now()
		wait := stopInBackground(r)
		r.deliver(cancel(r.controlPlane, "c"))
		if got := r.waitEnded(t, "c"); got.Status != tasker.Cancelled || time.Since(began) > 0 {
			t.Errorf("c after %s: %+v", time.Since(began), got)
		}
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != stopTimeout {
			t.Errorf("the stop took %s", waited)
		}
		if got := r.response("n", 1); got.Status != tasker.Interrupted || got.Reason != "agent was stopped" {
			t.Errorf("n: %+v", got)
		}
		if got := r.response("r", 1); got.Status != tasker.Running {
			t.Errorf("r: %+v", got)
		}
		close(resume.release)
		r = startAgent(t, newDirectControlPlane(), r.dir, hs, fakeClock)
		if got := r.waitEnded(t, "r"); got.Status != tasker.Succeeded || string(got.Result) != `{"attempt":1,"resumed":true}` {
			t.Errorf("r at the next start: %+v %s", got, got.Result)
		}
		must(t, r.stop())
	})
}

func TestStopWithoutLinkKeepsReports(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startDefault(t, blocking)
	r.deliver(assign(r.controlPlane, "t1", "deploy"))
	blocking.nextStarted(t)
	r.change(func() { r.down = true })
	close(blocking.release)
	waitFor(t, "it to have ended", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return len(entries) == 1 && entries[0].Phase == journal.Ended
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = startAgent(t, newControlPlane(), r.dir, []handlers.Handler{blocking})
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Succeeded {
		t.Errorf("t1: %+v", got)
	}
	if hello := reports(r.controlPlane)[0].Hello; len(hello.Unfinished) != 1 || hello.Unfinished[0].TaskID != "t1" {
		t.Errorf("hello: %+v", hello)
	}
}

func TestAgentStopsWhenLinkCloses(t *testing.T) {
	t.Parallel()
	cp := newDirectControlPlane()
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{newBlocking("deploy", "")})
	r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
	must(t, cp.Close())
	<-r.exited
	if err := r.stop(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestNewRejectsInvalidOptions(t *testing.T) {
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
	cp := newDirectControlPlane()
	cp.ignoreHellos = true
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	o := assign(cp, "t1", "deploy")
	must(t, j.Accept(
		[]journal.Record{{Type: "deploy", Assignment: *o.Assignment, Update: tasker.Update{
			TaskID: "t1", Type: "deploy", Attempt: 1, Seq: j.Seq(), Status: tasker.Received,
		}}},
		[]journal.Tombstone{{TaskID: "t1", Attempt: 1, Deadline: o.Assignment.Deadline}}))
	must(t, j.Close())
	logged := make(logLines, 100)
	r := startAgent(t, cp, dir, []handlers.Handler{newBlocking("deploy", "")}, func(o *agent.Options) {
		o.Log = slog.New(slog.NewTextHandler(logged, nil))
	})
	r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
	must(t, r.journal.Close())
	r.change(func() {
		cp.ignoreHellos = false
		cp.apply(r.reports[0])
	})
	for line := range logged {
		if strings.Contains(line, "cannot write to the journal") {
			break
		}
	}
	wait := stopInBackground(r)
	select {
	case <-r.exited:
	case <-time.After(testTimeout):
		t.Fatal("the agent does not stop")
	}
	_ = wait()
}
