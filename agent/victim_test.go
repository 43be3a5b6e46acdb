package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// victimDir names the variable that makes this test binary an agent to be killed.
const victimDir = "TASKER_TEST_AGENT_VICTIM"

// contracts are the handlers of the restart test: each is started once by the
// victim, prints, and blocks.
func contracts(handle func(context.Context, handlers.Call) (handlers.Result, error)) []handlers.Handler {
	var hs []handlers.Handler
	for _, c := range []handlers.Restart{handlers.RestartNever, handlers.RestartRetry, handlers.RestartResume} {
		hs = append(hs, handler{info: handlers.Info{Name: string(c), Restart: c}, handle: handle})
	}
	return hs
}

// runVictim is the life of the agent that is killed: it says when every handler
// runs and every final report is refused for now, and waits for its end.
func runVictim(dir string) {
	var started sync.WaitGroup
	started.Add(4)
	hs := contracts(func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		fmt.Fprint(c.Output, "before ")
		if err := c.RecordProcess(handlers.Process{PID: 4711, StartTime: 1}); err != nil {
			return handlers.Result{}, err
		}
		started.Done()
		<-ctx.Done()
		return handlers.Result{}, ctx.Err()
	})
	hs = append(hs, work("quick", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{Value: "done"}, nil
	}))
	mux, err := handlers.NewMux(hs...)
	fail(err)
	j, err := journal.Open(dir, journal.Options{})
	fail(err)
	w := newWire()
	a, err := agent.New(agent.Options{Endpoint: endpoint, Link: &finalless{w}, Journal: j, Handlers: mux, Concurrency: 1})
	fail(err)
	go func() { fail(a.Run(context.Background())) }()
	never2 := assign(w, "never-cancelled", string(handlers.RestartNever))
	never2.Type = "of-its-own"
	waiting := assign(w, "waiting", string(handlers.RestartNever))
	w.order(
		assign(w, "never", string(handlers.RestartNever)), assign(w, "retry", string(handlers.RestartRetry)),
		assign(w, "resume", string(handlers.RestartResume)), never2, waiting, assign(w, "quick", "quick"),
	)
	started.Wait()
	for {
		w.mu.Lock()
		changed := w.changed
		w.mu.Unlock()
		entries, err := j.Entries()
		fail(err)
		ready := slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.TaskID == "quick" && e.Phase == journal.Ended })
		for _, id := range []string{"never", "retry", "resume"} {
			ready = ready && w.row(id, 1).OutputBytes > 0
		}
		if ready {
			break
		}
		<-changed
	}
	fmt.Println("ready")
	select {}
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// finalless is a wire on which final reports do not pass.
type finalless struct{ *wire }

func (f *finalless) Send(ctx context.Context, reports ...tasker.Report) error {
	failed := map[int]error{}
	for i, r := range reports {
		if r.Update != nil && r.Update.Status.Ended() {
			failed[i] = transport.ErrUnavailable
			continue
		}
		if err := f.wire.Send(ctx, r); err != nil {
			failed[i] = err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	f.change(func() {})
	return &transport.SendError{Failed: failed, Of: len(reports)}
}

// reaper takes note of what it is asked to end.
type reaper struct {
	mu     sync.Mutex
	killed map[string][]handlers.Process
	fail   map[string]bool
	// hold, unless nil, delays it until it is closed.
	hold chan struct{}
}

func (r *reaper) Kill(_ context.Context, processes []handlers.Process, id string) error {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed[id] = processes
	if r.fail[id] {
		return errors.New("permission denied")
	}
	return nil
}

// TestKilledAgent kills an agent in the middle of everything; the next one does
// with each assignment what its handler's contract says.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if err != nil || line != "ready\n" {
		t.Fatalf("the agent said %q, %v", line, err)
	}

	var mu sync.Mutex
	ran := map[string]bool{} // id → resumed
	hs := contracts(func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		mu.Lock()
		ran[c.TaskID] = c.Resumed
		mu.Unlock()
		fmt.Fprint(c.Output, "after")
		return handlers.Result{}, nil
	})
	hs = append(hs, work("quick", func(context.Context, handlers.Call) (handlers.Result, error) { panic("run twice") }))
	w := newWire()
	// The cancel comes while the leftovers are still to be ended.
	w.batches = [][]tasker.Order{{cancel(w, "never-cancelled")}}
	reap := &reaper{killed: map[string][]handlers.Process{}, hold: make(chan struct{})}
	r := start(t, w, dir, hs, func(o *agent.Options) { o.Leftovers = reap })
	// The answer to the cancel says that it still runs, as far as is known.
	r.reached(t, "never-cancelled", tasker.Running)
	mu.Lock()
	if len(ran) > 0 {
		t.Errorf("started before the leftovers were ended: %v", ran)
	}
	mu.Unlock()
	close(reap.hold)
	want := map[string]struct {
		status tasker.ResponseStatus
		reason string
	}{
		"never":           {tasker.Interrupted, "agent was restarted"},
		"never-cancelled": {tasker.Cancelled, "cancelled while it was running"},
		"retry":           {tasker.Succeeded, ""},
		"resume":          {tasker.Succeeded, ""},
		"waiting":         {tasker.Succeeded, ""},
		"quick":           {tasker.Succeeded, ""},
	}
	for id, want := range want {
		if got := r.ended(t, id); got.Status != want.status || got.Reason != want.reason {
			t.Errorf("%s: %s, %q, not %v", id, got.Status, got.Reason, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(ran) != "map[resume:true retry:false waiting:false]" {
		t.Errorf("ran (and resumed) %v", ran)
	}
	reap.mu.Lock()
	defer reap.mu.Unlock()
	for _, id := range []string{"never", "never-cancelled", "retry", "resume"} {
		if p := reap.killed[id]; len(p) != 1 || p[0].PID != 4711 {
			t.Errorf("of %s were ended: %v", id, p)
		}
	}
	if len(reap.killed) != 4 {
		t.Errorf("ended: %v", reap.killed)
	}
	// What is printed by the second run does not take the place of the first's.
	if out := r.printed("resume"); out != ".......after" {
		t.Errorf("output of the second run: %q", out)
	}
	if got := r.row("never", 1); got.OutputBytes != 7 || got.StartedAt == nil {
		t.Errorf("what was known of the first run is lost: %+v", got)
	}
	hello := reported(r.wire)[0].Hello
	if hello == nil || len(hello.Unfinished) != 6 {
		t.Errorf("the hello lists %+v", hello)
	}
}

// TestLeftoversThatStay does not run again what may still run.
func TestLeftoversThatStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	w := newWire()
	u := tasker.Update{TaskID: "stays", Type: "retry", Attempt: 1, Seq: 1, Status: tasker.Received}
	must(t, j.Accept([]journal.Record{{Type: "retry", Assignment: *assign(w, "stays", "retry").Assignment, Update: u}}, nil))
	u.Status = tasker.Running
	must(t, j.Start(u))
	must(t, j.Close())
	hs := contracts(func(context.Context, handlers.Call) (handlers.Result, error) { panic("run again") })
	reap := &reaper{killed: map[string][]handlers.Process{}, fail: map[string]bool{"stays": true}}
	r := start(t, w, dir, hs, func(o *agent.Options) { o.Leftovers = reap })
	if got := r.ended(t, "stays"); got.Status != tasker.Interrupted || !strings.Contains(got.Reason, "permission denied") {
		data, _ := json.Marshal(got)
		t.Errorf("stays: %s", data)
	}
}
