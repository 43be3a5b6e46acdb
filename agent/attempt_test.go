package agent_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestDuplicatesRunOnce(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startDefault(t, blocking)
	o := assign(r.controlPlane, "t1", "deploy")
	r.deliver(o, o)
	blocking.nextStarted(t)
	r.deliver(o)
	r.waitStatus(t, "t1", tasker.Running)
	close(blocking.release)
	want := r.waitEnded(t, "t1")
	// A report about a later task arrives after the reports that these orders caused.
	r.deliver(assign(r.controlPlane, "t2", "deploy"))
	if id := blocking.nextStarted(t); id != "t2" {
		t.Errorf("%s was started instead of t2", id)
	}
	r.waitEnded(t, "t2")
	count := func() int {
		n := 0
		for _, rep := range r.reports {
			if rep.Update != nil && rep.Update.TaskID == "t1" && rep.Update.Status == tasker.Succeeded {
				n++
			}
		}
		return n
	}
	before := 0
	r.wait(t, "the final report", func() bool { before = count(); return before > 0 })
	r.deliver(o)
	r.wait(t, "the last report again", func() bool { return count() > before })
	if got := r.response("t1", 1); got.Seq != want.Seq || got.Late {
		t.Errorf("the repeated report changed the response to %+v", got)
	}
	// The report is also kept across a restart.
	_ = r.stop()
	again := startAgent(t, newControlPlane(), r.dir, []handlers.Handler{blocking})
	again.deliver(o)
	if got := again.waitEnded(t, "t1"); got.Status != tasker.Succeeded || string(got.Result) != string(want.Result) {
		t.Errorf("the report after a restart is %+v", got)
	}
	select {
	case id := <-blocking.started:
		t.Errorf("%s was started twice", id)
	default:
	}
}

func TestLaterAttemptReplacesEarlier(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startDefault(t, blocking)
	first, second := assign(r.controlPlane, "t1", "deploy"), assign(r.controlPlane, "t1", "deploy")
	second.Assignment.Attempt = 2
	r.deliver(first)
	blocking.nextStarted(t)
	r.deliver(second)
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Cancelled || got.Reason != "replaced by attempt 2" {
		t.Errorf("the first attempt is %+v", got)
	}
	blocking.nextStarted(t)
	third := assign(r.controlPlane, "t2", "deploy")
	third.Assignment.Attempt = 3
	lower := assign(r.controlPlane, "t2", "deploy")
	r.deliver(third)
	r.deliver(lower)
	blocking.nextStarted(t)
	close(blocking.release)
	for ref := range map[journal.Ref]bool{{TaskID: "t1", Attempt: 2}: true, {TaskID: "t2", Attempt: 3}: true} {
		r.wait(t, "the later attempt", func() bool { return r.responses[ref].Status == tasker.Succeeded })
	}
	r.deliver(assign(r.controlPlane, "t3", "deploy"))
	r.waitEnded(t, "t3") // so the agent has received all orders
	if id := blocking.nextStarted(t); id != "t3" {
		t.Errorf("%s was started instead of t3", id)
	}
	must(t, r.stop()) // now all reports are sent
	if got := r.response("t2", 1); got.Status != "" {
		t.Errorf("a stale attempt is %+v", got)
	}
	if len(blocking.started) > 0 {
		t.Errorf("%s was started again", <-blocking.started)
	}
}

// A replaced attempt is not started, even if the agent could not end it before, because
// the agent was killed or did not know the time.
func TestReplacedAttemptDoesNotStartAfterRestart(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	close(blocking.release)
	cp := newControlPlane()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	for _, id := range []string{"accepted", "held"} {
		for attempt := range 2 {
			o := assign(cp, id, "deploy")
			o.Assignment.Attempt = attempt + 1
			must(t, j.Accept([]journal.Record{{Type: "deploy", Assignment: *o.Assignment, Held: id == "held", Update: tasker.Update{
				TaskID: id, Type: "deploy", Attempt: attempt + 1, Seq: j.Seq(), Status: tasker.Received,
			}}}, nil))
		}
	}
	must(t, j.Close())
	r := startAgent(t, cp, dir, []handlers.Handler{blocking})
	for _, id := range []string{"accepted", "held"} {
		r.wait(t, "the later attempt of "+id, func() bool { return r.responses[journal.Ref{TaskID: id, Attempt: 2}].Status == tasker.Succeeded })
		if got := r.waitEnded(t, id); got.Status != tasker.Cancelled || got.Reason != "replaced by attempt 2" {
			t.Errorf("%s, attempt 1: %+v", id, got)
		}
	}
	if len(blocking.started) != 2 {
		t.Errorf("%d were started", len(blocking.started))
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startAgent(t, newControlPlane(), t.TempDir(), []handlers.Handler{blocking}, func(o *agent.Options) { o.Concurrency = 1 })
	r.deliver(assign(r.controlPlane, "running", "deploy"), assign(r.controlPlane, "waiting", "deploy"))
	if id := blocking.nextStarted(t); id != "running" {
		t.Fatalf("%s was started first", id)
	}
	r.deliver(cancel(r.controlPlane, "waiting"))
	if got := r.waitEnded(t, "waiting"); got.Status != tasker.Cancelled || got.StartedAt != nil || got.Reason != "cancelled before it was started" {
		t.Errorf("waiting: %+v", got)
	}
	r.deliver(cancel(r.controlPlane, "running"))
	if got := r.waitEnded(t, "running"); got.Status != tasker.Cancelled || got.Reason != "cancelled while it was running" || got.Error != "" {
		t.Errorf("running: %+v", got)
	}

	// A cancel arrives before its assignment: in one batch, in an earlier batch, and before
	// a restart.
	broadcast := cancel(r.controlPlane, "everywhere")
	broadcast.Cancel.Broadcast = true
	r.deliver(broadcast)
	r.deliver(cancel(r.controlPlane, "early"), assign(r.controlPlane, "early", "deploy"))
	r.deliver(cancel(r.controlPlane, "earlier"))
	if got := r.waitEnded(t, "earlier"); got.Status != tasker.Cancelled || got.Reason != "cancelled before it was received" {
		t.Errorf("unknown: %+v", got)
	}
	r.deliver(assign(r.controlPlane, "earlier", "deploy"))
	if got := r.waitEnded(t, "early"); got.Status != tasker.Cancelled {
		t.Errorf("early: %+v", got)
	}
	if got := r.response("everywhere", 1); got.Status != "" {
		t.Errorf("the cancel of an unknown broadcast was reported: %+v", got)
	}
	_ = r.stop()
	r = startAgent(t, newControlPlane(), r.dir, []handlers.Handler{blocking})
	r.deliver(assign(r.controlPlane, "everywhere", "deploy"))
	if got := r.waitEnded(t, "everywhere"); got.Status != tasker.Cancelled {
		t.Errorf("everywhere: %+v", got)
	}

	// A cancel of an ended assignment repeats its final report.
	close(blocking.release)
	r.deliver(assign(r.controlPlane, "done", "deploy"))
	if blocking.nextStarted(t) != "done" {
		t.Error("another task was started")
	}
	r.waitEnded(t, "done")
	r.change(func() { delete(r.responses, journal.Ref{TaskID: "done", Attempt: 1}) })
	r.deliver(cancel(r.controlPlane, "done"))
	if got := r.waitEnded(t, "done"); got.Status != tasker.Succeeded {
		t.Errorf("done: %+v", got)
	}
}
