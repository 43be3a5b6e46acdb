package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestLife(t *testing.T) {
	t.Parallel()
	code := 0
	r := simple(t, work("work", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		if c.Identifier != "i-t1" || c.Endpoint != endpoint || c.Type != "work" || c.Attempt != 1 || c.Resumed {
			return handlers.Result{}, fmt.Errorf("the call is %+v", c)
		}
		fmt.Fprint(c.Output, "hello\n")
		c.Progress(40, "almost")
		c.Progress(100, "there")
		return handlers.Result{Value: c.Payload, ExitCode: &code}, nil
	}))
	r.order(assign(r.wire, "t1", "work"))
	got := r.ended(t, "t1")
	if got.Status != tasker.Succeeded || got.Error != "" || string(got.Result) != `{"id":"t1"}` || got.ExitCode == nil {
		t.Errorf("response is %+v, result %s", got, got.Result)
	}
	if got.Progress == nil || *got.Progress != (tasker.Progress{Percent: 100, Message: "there"}) {
		t.Errorf("progress is %+v", got.Progress)
	}
	if got.ReceivedAt == nil || got.StartedAt == nil || got.FinishedAt == nil || got.FinishedAt.Before(*got.ReceivedAt) {
		t.Errorf("times are %v %v %v", got.ReceivedAt, got.StartedAt, got.FinishedAt)
	}
	if out := r.printed("t1"); out != "hello\n" || got.OutputBytes != 6 || got.OutputTruncated {
		t.Errorf("output is %q, %d bytes, truncated %v", out, got.OutputBytes, got.OutputTruncated)
	}
	first := reported(r.wire)[0]
	if first.Hello == nil || first.Endpoint != endpoint || first.Instance != r.journal.Instance() || first.Version != tasker.WireVersion {
		t.Errorf("the first report is %+v", first)
	}
}

// TestOutcomes has handlers end in every way there is.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	type row struct {
		name    string
		handle  func(context.Context, handlers.Call) (handlers.Result, error)
		timeout time.Duration
		want    tasker.ResponseStatus
		// parts of these must be said
		reason, err string
		result      string
	}
	tests := []row{
		{name: "no-result", want: tasker.Succeeded, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, nil
		}},
		{name: "error", want: tasker.Failed, err: "disk is full", result: `{"n":1}`, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: map[string]int{"n": 1}}, errors.New("disk is full")
		}},
		{name: "reject", want: tasker.Rejected, reason: "not on Sundays", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, fmt.Errorf("wrapped: %w", handlers.Reject("not on %ss", "Sunday"))
		}},
		{name: "panic", want: tasker.Failed, err: "handler panic panicked: oh no", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			panic("oh no")
		}},
		{name: "big", want: tasker.Failed, err: "262147 bytes", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: strings.Repeat("x", tasker.MaxResult+1)}, nil
		}},
		{name: "largest", want: tasker.Succeeded, result: `"` + strings.Repeat("x", tasker.MaxResult-2) + `"`, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: strings.Repeat("x", tasker.MaxResult-2)}, nil
		}},
		{name: "not-json", want: tasker.Failed, err: "cannot be encoded", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: func() {}}, nil
		}},
		{name: "error-and-not-json", want: tasker.Failed, err: "first; the handler's result is not kept", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: math.NaN()}, errors.New("first")
		}},
		{name: "timeout", want: tasker.TimedOut, reason: "not done within 20ms", timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, context.Cause(ctx)
		}},
		{name: "timeout-said", want: tasker.TimedOut, err: "was at step 3", timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, fmt.Errorf("was at step 3: %w", context.Cause(ctx))
		}},
		{name: "knows-its-time", want: tasker.Succeeded, timeout: time.Hour, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			if _, known := ctx.Deadline(); !known {
				return handlers.Result{}, errors.New("there is no deadline")
			}
			return handlers.Result{}, nil
		}},
		{name: "done-all-the-same", want: tasker.Succeeded, timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, nil
		}},
		{name: "own-timeout", want: tasker.Failed, err: "context deadline exceeded", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, context.DeadlineExceeded
		}},
		{name: "odd-progress", want: tasker.Succeeded, handle: func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			c.Progress(math.NaN(), "\xff"+strings.Repeat("y", 1<<20))
			return handlers.Result{}, nil
		}},
		{name: "odd-error", want: tasker.Failed, err: "bytes", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, errors.New("bytes \xff\xfe" + strings.Repeat("z", 1<<20))
		}},
		{name: "speaks-after-its-end", want: tasker.Succeeded, handle: func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			go func() { c.Progress(1, "late"); fmt.Fprint(c.Output, "late") }()
			return handlers.Result{}, nil
		}},
	}
	hs := make([]handlers.Handler, len(tests))
	for i, tt := range tests {
		hs[i] = work(tt.name, tt.handle)
	}
	r := simple(t, hs...)
	for _, tt := range tests {
		o := assign(r.wire, tt.name, tt.name)
		o.Assignment.Timeout = tasker.Duration(tt.timeout)
		r.order(o)
	}
	for _, tt := range tests {
		got := r.ended(t, tt.name)
		if got.Status != tt.want || !strings.Contains(got.Reason, tt.reason) || !strings.Contains(got.Error, tt.err) || string(got.Result) != tt.result {
			t.Errorf("%s: status %s, reason %q, error %.200q, result of %d bytes", tt.name, got.Status, got.Reason, got.Error, len(got.Result))
		}
		if len(got.Error) > 20<<10 {
			t.Errorf("%s: an error of %d bytes", tt.name, len(got.Error))
		}
	}
	if problems, err := testutil.GatherAndLint(r.reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestRejectedOnArrival(t *testing.T) {
	t.Parallel()
	h := handler{
		info:   handlers.Info{Name: "strict", Schema: json.RawMessage(`{"type":"object","required":["n"]}`)},
		handle: func(context.Context, handlers.Call) (handlers.Result, error) { panic("started") },
	}
	r := start(t, directWire(), t.TempDir(), []handlers.Handler{h})
	unknown := assign(r.wire, "unknown", "nobody")
	bad := assign(r.wire, "bad", "strict")
	newer := assign(r.wire, "newer", "strict")
	newer.Version = tasker.MaxWireVersion + 1
	odd := assign(r.wire, "odd", "strict")
	odd.Type = "../etc"
	r.order(unknown, bad, newer, odd)
	for id, reason := range map[string]string{
		"unknown": `handler "nobody" is not configured`, "bad": "bad payload", "newer": "update the agent", "odd": "../etc",
	} {
		if got := r.ended(t, id); got.Status != tasker.Rejected || !strings.Contains(got.Reason, reason) {
			t.Errorf("%s: %s, %q", id, got.Status, got.Reason)
		}
	}
}

// TestIgnoredOrders sends what is acknowledged and changes nothing.
func TestIgnoredOrders(t *testing.T) {
	t.Parallel()
	r := start(t, directWire(), t.TempDir(), []handlers.Handler{
		work("work", func(context.Context, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil }),
	})
	other := assign(r.wire, "other", "work")
	other.Endpoint = "loadbalancer-2"
	nameless, path, attemptless := assign(r.wire, "", "work"), assign(r.wire, "../x", "work"), assign(r.wire, "a", "work")
	attemptless.Assignment.Attempt = 0
	both := assign(r.wire, "both", "work")
	both.Cancel = cancel(r.wire, "both").Cancel
	none := tasker.Order{Version: 1, Endpoint: endpoint}
	newer := cancel(r.wire, "newer")
	newer.Version = 99
	all := assign(r.wire, "all", "work")
	all.Endpoint = tasker.AllEndpoints
	r.order(other, nameless, path, attemptless, both, none, newer)
	r.order(all)
	if got := r.ended(t, "all"); got.Status != tasker.Succeeded {
		t.Errorf("an order for everyone: %+v", got)
	}
	must(t, r.stop()) // now all is said
	if len(r.rows) != 1 {
		t.Errorf("rows are %+v", r.rows)
	}
}

func TestDuplicatesRunOnce(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := simple(t, g)
	o := assign(r.wire, "t1", "work")
	r.order(o, o)
	g.next(t)
	r.order(o)
	r.reached(t, "t1", tasker.Running)
	close(g.pass)
	want := r.ended(t, "t1")
	// What is said of another task afterwards comes after what the orders so far
	// were answered with.
	r.order(assign(r.wire, "t2", "work"))
	if id := g.next(t); id != "t2" {
		t.Errorf("%s was started instead of t2", id)
	}
	r.ended(t, "t2")
	count := func() int {
		n := 0
		for _, rep := range r.reports {
			if rep.Update != nil && rep.Update.TaskID == "t1" && rep.Update.Status == tasker.Succeeded {
				n++
			}
		}
		return n
	}
	said := 0
	r.wait(t, "the final report", func() bool { said = count(); return said > 0 })
	r.order(o)
	r.wait(t, "the last report again", func() bool { return count() > said })
	if got := r.row("t1", 1); got.Seq != want.Seq || got.Late {
		t.Errorf("the repeated report changed the response to %+v", got)
	}
	// Retained over a restart, too.
	_ = r.stop()
	again := start(t, newWire(), r.dir, []handlers.Handler{g})
	again.order(o)
	if got := again.ended(t, "t1"); got.Status != tasker.Succeeded || string(got.Result) != string(want.Result) {
		t.Errorf("after a restart the answer is %+v", got)
	}
	select {
	case id := <-g.started:
		t.Errorf("%s was started twice", id)
	default:
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := simple(t, g)
	first, second := assign(r.wire, "t1", "work"), assign(r.wire, "t1", "work")
	second.Assignment.Attempt = 2
	r.order(first)
	g.next(t)
	r.order(second)
	if got := r.ended(t, "t1"); got.Status != tasker.Cancelled || got.Reason != "attempt 2 has taken its place" {
		t.Errorf("the first attempt is %+v", got)
	}
	g.next(t)
	third := assign(r.wire, "t2", "work")
	third.Assignment.Attempt = 3
	lower := assign(r.wire, "t2", "work")
	r.order(third)
	r.order(lower)
	g.next(t)
	close(g.pass)
	for ref := range map[journal.Ref]bool{{TaskID: "t1", Attempt: 2}: true, {TaskID: "t2", Attempt: 3}: true} {
		r.wait(t, "the later attempt", func() bool { return r.rows[ref].Status == tasker.Succeeded })
	}
	r.order(assign(r.wire, "t3", "work"))
	r.ended(t, "t3") // so all orders were taken
	if id := g.next(t); id != "t3" {
		t.Errorf("%s was started instead of t3", id)
	}
	must(t, r.stop()) // now all is said
	if got := r.row("t2", 1); got.Status != "" {
		t.Errorf("an attempt that was overtaken is %+v", got)
	}
	if len(g.started) > 0 {
		t.Errorf("%s was started once more", <-g.started)
	}
}

// An attempt that waits, and whose place a later one has taken, is not started either
// where the agent that was to end it was killed, or did not know the time.
func TestAttemptsAtAStart(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	close(g.pass)
	w := newWire()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	for _, id := range []string{"accepted", "held"} {
		for attempt := range 2 {
			o := assign(w, id, "work")
			o.Assignment.Attempt = attempt + 1
			must(t, j.Accept([]journal.Record{{Type: "work", Assignment: *o.Assignment, Held: id == "held", Update: tasker.Update{
				TaskID: id, Type: "work", Attempt: attempt + 1, Seq: j.Seq(), Status: tasker.Received,
			}}}, nil))
		}
	}
	must(t, j.Close())
	r := start(t, w, dir, []handlers.Handler{g})
	for _, id := range []string{"accepted", "held"} {
		r.wait(t, "the later attempt of "+id, func() bool { return r.rows[journal.Ref{TaskID: id, Attempt: 2}].Status == tasker.Succeeded })
		if got := r.ended(t, id); got.Status != tasker.Cancelled || got.Reason != "attempt 2 has taken its place" {
			t.Errorf("%s, attempt 1: %+v", id, got)
		}
	}
	if len(g.started) != 2 {
		t.Errorf("%d were started", len(g.started))
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := start(t, newWire(), t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.Concurrency = 1 })
	r.order(assign(r.wire, "running", "work"), assign(r.wire, "waiting", "work"))
	if id := g.next(t); id != "running" {
		t.Fatalf("%s was started first", id)
	}
	r.order(cancel(r.wire, "waiting"))
	if got := r.ended(t, "waiting"); got.Status != tasker.Cancelled || got.StartedAt != nil || got.Reason != "cancelled before it was started" {
		t.Errorf("waiting: %+v", got)
	}
	r.order(cancel(r.wire, "running"))
	if got := r.ended(t, "running"); got.Status != tasker.Cancelled || got.Reason != "cancelled while it was running" || got.Error != "" {
		t.Errorf("running: %+v", got)
	}

	// A cancel that overtakes its assignment, in one batch, over batches, and
	// over a restart.
	broadcast := cancel(r.wire, "everywhere")
	broadcast.Cancel.Broadcast = true
	r.order(broadcast)
	r.order(cancel(r.wire, "early"), assign(r.wire, "early", "work"))
	r.order(cancel(r.wire, "earlier"))
	if got := r.ended(t, "earlier"); got.Status != tasker.Cancelled || got.Reason != "cancelled before it was received" {
		t.Errorf("unknown: %+v", got)
	}
	r.order(assign(r.wire, "earlier", "work"))
	if got := r.ended(t, "early"); got.Status != tasker.Cancelled {
		t.Errorf("early: %+v", got)
	}
	if got := r.row("everywhere", 1); got.Status != "" {
		t.Errorf("the cancel of an unknown broadcast was answered: %+v", got)
	}
	_ = r.stop()
	r = start(t, newWire(), r.dir, []handlers.Handler{g})
	r.order(assign(r.wire, "everywhere", "work"))
	if got := r.ended(t, "everywhere"); got.Status != tasker.Cancelled {
		t.Errorf("everywhere: %+v", got)
	}

	// A cancel of what has ended is answered with how it ended.
	close(g.pass)
	r.order(assign(r.wire, "done", "work"))
	if g.next(t) != "done" {
		t.Error("something else was started")
	}
	r.ended(t, "done")
	r.change(func() { delete(r.rows, journal.Ref{TaskID: "done", Attempt: 1}) })
	r.order(cancel(r.wire, "done"))
	if got := r.ended(t, "done"); got.Status != tasker.Succeeded {
		t.Errorf("done: %+v", got)
	}
}

// TestDeadlines has a control plane whose time is far from this machine's.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"behind": -50 * 365 * 24 * time.Hour, "equal": 0, "ahead": 50 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := directWire()
			w.time = func() time.Time { return time.Now().Add(skew) }
			w.mute = true
			// These come before the agent knows the time, and are held.
			good, bad, doomed := assign(w, "good", "work"), assign(w, "bad", "work"), assign(w, "doomed", "work")
			// The agent's time is late by the way of the welcome.
			bad.Assignment.Deadline = w.time().Add(-patience)
			w.batches = append(w.batches, []tasker.Order{good, bad, good, doomed}, []tasker.Order{cancel(w, "doomed")})
			g := newGate("work", "")
			close(g.pass)
			r := start(t, w, t.TempDir(), []handlers.Handler{g})
			r.wait(t, "the orders to be taken", func() bool { return len(r.batches) == 0 })
			r.wait(t, "a hello", func() bool { return len(r.reports) > 0 })
			if len(g.started) > 0 || r.row("good", 1).Status != "" {
				t.Fatal("something happened before the welcome")
			}
			r.change(func() {
				w.mute = false
				w.take(r.reports[0])
			})
			got := r.ended(t, "good")
			if got.Status != tasker.Succeeded || got.ReceivedAt.Sub(w.time()).Abs() > time.Hour {
				t.Errorf("good: %+v", got)
			}
			if got := r.ended(t, "doomed"); got.Status != tasker.Cancelled {
				t.Errorf("doomed: %+v", got)
			}
			late := assign(w, "late", "work")
			late.Assignment.Deadline = w.time().Add(-patience)
			r.order(late, assign(w, "after", "work"))
			r.ended(t, "after")
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

// The control plane's clock is set back while the agent is connected, so that all that
// it orders from then on seems to be late. The agent asks for the time; what it has
// dropped is sent again to one that says hello.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	var back atomic.Int64
	w := directWire()
	w.time = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	g := newGate("work", "")
	close(g.pass)
	r := start(t, w, t.TempDir(), []handlers.Handler{g})
	r.order(assign(w, "before", "work"))
	r.ended(t, "before")
	back.Store(int64(time.Hour))
	r.order(assign(w, "t1", "work"), assign(w, "t2", "work"))
	hellos := func() (n int) {
		for _, report := range r.reports {
			if report.Hello != nil {
				n++
			}
		}
		return n
	}
	r.wait(t, "another hello and its welcome", func() bool { return hellos() == 2 && len(r.batches) == 0 })
	r.order(assign(w, "t1", "work"))
	if got := r.ended(t, "t1"); got.Status != tasker.Succeeded {
		t.Errorf("%+v", got)
	}
	// One that is late all the same is no reason to ask again and again.
	late := assign(w, "late", "work")
	late.Assignment.Deadline = w.time().Add(-time.Minute)
	r.order(late)
	r.order(assign(w, "after", "work"))
	r.ended(t, "after")
	r.change(func() {
		if n := hellos(); n != 2 {
			t.Errorf("it has said hello %d times", n)
		}
	})
}
