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

// killedAgentDir is an environment variable. With it, this test binary is an agent that the
// test kills; its value is the data directory.
const killedAgentDir = "TASKER_TEST_KILLED_AGENT"

// handlersByRestart returns one handler for each restart contract.
func handlersByRestart(handle func(context.Context, handlers.Call) (handlers.Result, error)) []handlers.Handler {
	var hs []handlers.Handler
	for _, c := range []handlers.Restart{handlers.RestartNever, handlers.RestartRetry, handlers.RestartResume} {
		hs = append(hs, handler{info: handlers.Info{Name: string(c), Restart: c}, handle: handle})
	}
	return hs
}

// runKilledAgent runs the agent that is killed. It prints "ready" when the handlers run and
// a final report could not be sent, and waits for its end.
func runKilledAgent(dir string) {
	var started sync.WaitGroup
	started.Add(4)
	hs := handlersByRestart(func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		fmt.Fprint(c.Output, "before ")
		if err := c.RecordProcess(handlers.Process{PID: 4711, StartTime: 1}); err != nil {
			return handlers.Result{}, err
		}
		started.Done()
		<-ctx.Done()
		return handlers.Result{}, ctx.Err()
	})
	hs = append(hs, handlerFunc("quick", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{Value: "done"}, nil
	}))
	mux, err := handlers.NewMux(hs...)
	fail(err)
	j, err := journal.Open(dir, journal.Options{})
	fail(err)
	cp := newControlPlane()
	a, err := agent.New(agent.Options{Endpoint: endpoint, Link: &refuseFinal{cp}, Journal: j, Handlers: mux, Concurrency: 1})
	fail(err)
	go func() { fail(a.Run(context.Background())) }()
	cancelled := assign(cp, "never-cancelled", string(handlers.RestartNever))
	cancelled.Type = "separate-type"
	waiting := assign(cp, "waiting", string(handlers.RestartNever))
	cp.deliver(
		assign(cp, "never", string(handlers.RestartNever)), assign(cp, "retry", string(handlers.RestartRetry)),
		assign(cp, "resume", string(handlers.RestartResume)), cancelled, waiting, assign(cp, "quick", "quick"),
	)
	started.Wait()
	for {
		cp.mu.Lock()
		changed := cp.changed
		cp.mu.Unlock()
		entries, err := j.Entries()
		fail(err)
		ready := slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.TaskID == "quick" && e.Phase == journal.Ended })
		for _, id := range []string{"never", "retry", "resume"} {
			ready = ready && cp.response(id, 1).OutputBytes > 0
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

// refuseFinal is a link that does not send final reports.
type refuseFinal struct{ *controlPlane }

func (f *refuseFinal) Send(ctx context.Context, reports ...tasker.Report) error {
	failed := map[int]error{}
	for i, r := range reports {
		if r.Update != nil && r.Update.Status.Ended() {
			failed[i] = transport.ErrUnavailable
			continue
		}
		if err := f.controlPlane.Send(ctx, r); err != nil {
			failed[i] = err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	f.change(func() {})
	return &transport.SendError{Failed: failed, Of: len(reports)}
}

// fakeLeftovers records the processes it should kill.
type fakeLeftovers struct {
	mu     sync.Mutex
	killed map[string][]handlers.Process
	fail   map[string]bool
	// hold, if not nil, delays Kill until it is closed.
	hold chan struct{}
}

func (r *fakeLeftovers) Kill(_ context.Context, processes []handlers.Process, id string) error {
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

// An agent is killed while it performs assignments. The next one follows the restart
// contract of each handler.
func TestKilledAgentFollowsRestartContracts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedAgentDir+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if err != nil || line != "ready\n" {
		t.Fatalf("the agent printed %q, %v", line, err)
	}

	var mu sync.Mutex
	ran := map[string]bool{} // id → resumed
	hs := handlersByRestart(func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		mu.Lock()
		ran[c.TaskID] = c.Resumed
		mu.Unlock()
		fmt.Fprint(c.Output, "after")
		return handlers.Result{}, nil
	})
	hs = append(hs, handlerFunc("quick", func(context.Context, handlers.Call) (handlers.Result, error) { panic("run twice") }))
	cp := newControlPlane()
	// The cancel arrives before the leftovers are killed.
	cp.batches = [][]tasker.Order{{cancel(cp, "never-cancelled")}}
	leftovers := &fakeLeftovers{killed: map[string][]handlers.Process{}, hold: make(chan struct{})}
	r := startAgent(t, cp, dir, hs, func(o *agent.Options) { o.Leftovers = leftovers })
	// The report after the cancel: as far as is known, the assignment is running.
	r.waitStatus(t, "never-cancelled", tasker.Running)
	mu.Lock()
	if len(ran) > 0 {
		t.Errorf("started before the leftovers were killed: %v", ran)
	}
	mu.Unlock()
	close(leftovers.hold)
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
		if got := r.waitEnded(t, id); got.Status != want.status || got.Reason != want.reason {
			t.Errorf("%s: %s, %q, not %v", id, got.Status, got.Reason, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(ran) != "map[resume:true retry:false waiting:false]" {
		t.Errorf("ran (and resumed) %v", ran)
	}
	leftovers.mu.Lock()
	defer leftovers.mu.Unlock()
	for _, id := range []string{"never", "never-cancelled", "retry", "resume"} {
		if p := leftovers.killed[id]; len(p) != 1 || p[0].PID != 4711 {
			t.Errorf("killed processes of %s: %v", id, p)
		}
	}
	if len(leftovers.killed) != 4 {
		t.Errorf("killed: %v", leftovers.killed)
	}
	// The output of the second run does not overwrite that of the first.
	if out := r.outputOf("resume"); out != ".......after" {
		t.Errorf("output of the second run: %q", out)
	}
	if got := r.response("never", 1); got.OutputBytes != 7 || got.StartedAt == nil {
		t.Errorf("the report lacks facts of the first run: %+v", got)
	}
	hello := reports(r.controlPlane)[0].Hello
	if hello == nil || len(hello.Unfinished) != 6 {
		t.Errorf("the hello lists %+v", hello)
	}
}

// An assignment is not started again if its processes may still run.
func TestLeftoversThatCannotBeKilledAreNotRestarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	cp := newControlPlane()
	u := tasker.Update{TaskID: "stays", Type: "retry", Attempt: 1, Seq: 1, Status: tasker.Received}
	must(t, j.Accept([]journal.Record{{Type: "retry", Assignment: *assign(cp, "stays", "retry").Assignment, Update: u}}, nil))
	u.Status = tasker.Running
	must(t, j.Start(u))
	must(t, j.Close())
	hs := handlersByRestart(func(context.Context, handlers.Call) (handlers.Result, error) { panic("run again") })
	leftovers := &fakeLeftovers{killed: map[string][]handlers.Process{}, fail: map[string]bool{"stays": true}}
	r := startAgent(t, cp, dir, hs, func(o *agent.Options) { o.Leftovers = leftovers })
	if got := r.waitEnded(t, "stays"); got.Status != tasker.Interrupted || !strings.Contains(got.Reason, "permission denied") {
		data, _ := json.Marshal(got)
		t.Errorf("stays: %s", data)
	}
}
