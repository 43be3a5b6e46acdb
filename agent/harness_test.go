package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedAgentDir); dir != "" {
		runKilledAgent(dir)
	}
	goleak.VerifyTestMain(m)
}

const endpoint = "loadbalancer-1"

// testTimeout bounds every wait of a test.
const testTimeout = 2 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// assign returns an assignment of a task, with a deadline that the agent meets.
func assign(cp *controlPlane, id, handler string) tasker.Order {
	return tasker.Order{
		Version: 1, Endpoint: endpoint, Type: handler,
		Assignment: &tasker.Assignment{
			TaskID: id, Identifier: "i-" + id, Attempt: 1, Handler: handler,
			Payload: json.RawMessage(`{"id":"` + id + `"}`), Deadline: cp.time().Add(testTimeout),
		},
	}
}

// cancel returns a cancel of a task.
func cancel(cp *controlPlane, id string) tasker.Order {
	return tasker.Order{
		Version: 1, Endpoint: endpoint, Type: "deploy",
		Cancel: &tasker.Cancel{TaskID: id, Attempt: 1, Deadline: cp.time().Add(testTimeout)},
	}
}

// handler is a Handler that calls a function.
type handler struct {
	info   handlers.Info
	handle func(context.Context, handlers.Call) (handlers.Result, error)
}

func (h handler) Info() handlers.Info { return h.info }

func (h handler) Handle(ctx context.Context, c handlers.Call) (handlers.Result, error) {
	return h.handle(ctx, c)
}

func handlerFunc(name string, fn func(context.Context, handlers.Call) (handlers.Result, error)) handler {
	return handler{info: handlers.Info{Name: name}, handle: fn}
}

// blockingHandler is a handler that sends the id of each task it starts to started, and
// then waits for release.
type blockingHandler struct {
	handler
	started chan string
	release chan struct{}
}

func newBlocking(name string, restart handlers.Restart) *blockingHandler {
	b := &blockingHandler{started: make(chan string, 2000), release: make(chan struct{})}
	b.info = handlers.Info{Name: name, Restart: restart}
	b.handle = func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		b.started <- c.TaskID
		select {
		case <-b.release:
			return handlers.Result{Value: map[string]any{"resumed": c.Resumed, "attempt": c.Attempt}}, nil
		case <-ctx.Done():
			return handlers.Result{}, context.Cause(ctx)
		}
	}
	return b
}

// nextStarted returns the next task that the handler starts.
func (b *blockingHandler) nextStarted(t testing.TB) string {
	t.Helper()
	select {
	case id := <-b.started:
		return id
	case <-time.After(testTimeout):
		t.Fatal("no handler was started")
		return ""
	}
}

// runningAgent is an agent that runs, and its control plane.
type runningAgent struct {
	*controlPlane
	dir     string
	journal *journal.Journal
	reg     *prometheus.Registry
	exited  chan struct{}
	// stop stops the agent and returns the error of Run.
	stop func() error
}

// change changes the options of an agent.
type change func(*agent.Options)

// startAgent runs an agent with the data directory dir until the test ends or stop is
// called.
func startAgent(t testing.TB, cp *controlPlane, dir string, hs []handlers.Handler, changes ...change) *runningAgent {
	t.Helper()
	mux, err := handlers.NewMux(hs...)
	must(t, err)
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	reg := prometheus.NewRegistry()
	var link transport.Link = cp
	closeLink := func() error { return nil }
	if !cp.direct {
		types := []tasker.TaskType{{Name: "deploy", Handler: mux.Names()[0]}}
		for _, name := range mux.Names() {
			types = append(types, tasker.TaskType{Name: name, Handler: name})
		}
		link = cp.overHTTP(t, j.Instance(), types)
		closeLink = link.Close
	}
	opts := agent.Options{
		Endpoint: endpoint, Version: "1.2.3", Link: link, Journal: j, Handlers: mux,
		Metrics: agent.NewMetrics(reg), StopTimeout: time.Second, KillGrace: testTimeout,
	}
	for _, c := range changes {
		c(&opts)
	}
	a, err := agent.New(opts)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var failed error
	r := &runningAgent{controlPlane: cp, dir: dir, journal: j, reg: reg, exited: make(chan struct{})}
	go func() { failed = a.Run(ctx); close(r.exited) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		<-r.exited
		return errors.Join(failed, closeLink(), j.Close())
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// startDefault starts an agent with handlers, an own control plane and an own directory.
func startDefault(t testing.TB, hs ...handlers.Handler) *runningAgent {
	t.Helper()
	return startAgent(t, newControlPlane(), t.TempDir(), hs)
}

// statuses returns the statuses of updates, without repetitions.
func statuses(us []tasker.Update) []tasker.ResponseStatus {
	var all []tasker.ResponseStatus
	for _, u := range us {
		all = append(all, u.Status)
	}
	return slices.Compact(all)
}
