package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
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
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		runVictim(dir)
	}
	goleak.VerifyTestMain(m)
}

const endpoint = "loadbalancer-1"

// patience bounds every wait of a test.
const patience = 2 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is a control plane that applies the reports by the rule that the real one
// uses. Agents reach it over HTTP. Where a test needs time to be fake or a link
// to do what HTTP does not, a direct wire is the agent's Link itself.
type wire struct {
	direct bool

	// time is the control plane's.
	time      func() time.Time
	heartbeat time.Duration

	mu      sync.Mutex
	changed chan struct{}
	closed  chan struct{}
	down    bool
	mute    bool // hellos are not answered
	refuse  func(tasker.Report) bool
	key     ed25519.PrivateKey // signs the welcomes; nil does not
	batches [][]tasker.Order
	held    int // how often a batch was not acknowledged
	reports []tasker.Report
	rows    map[journal.Ref]tasker.Response
	output  map[journal.Ref]map[int64]byte
}

func newWire() *wire {
	return &wire{
		time: time.Now, heartbeat: time.Hour,
		changed: make(chan struct{}), closed: make(chan struct{}),
		rows: map[journal.Ref]tasker.Response{}, output: map[journal.Ref]map[int64]byte{},
	}
}

func directWire() *wire {
	w := newWire()
	w.direct = true
	return w
}

var _ transport.Link = (*wire)(nil)

// overHTTP has the wire served by a hub, until the test ends, and returns the
// agent's link to it.
func (w *wire) overHTTP(t testing.TB, instance string, types []tasker.TaskType) transport.Link {
	t.Helper()
	hub := httplink.NewHub(httplink.HubOptions{Types: types, Log: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.mu.Lock()
		down := w.down
		w.mu.Unlock()
		if down {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		hub.Handler().ServeHTTP(rw, req)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var hubs sync.WaitGroup
	hello := make(chan struct{})
	heard := sync.OnceFunc(func() { close(hello) })
	hubs.Go(func() {
		_ = hub.Receive(ctx, func(_ context.Context, reports []tasker.Report) error {
			w.change(func() {
				for _, r := range reports {
					w.take(r)
				}
			})
			heard() // it is what comes first
			return nil
		})
	})
	hubs.Go(func() {
		// Before its hello the agent is offline. One that came in the midst of a batch
		// would let the later orders overtake the earlier ones, which are sent again.
		select {
		case <-hello:
		case <-ctx.Done():
			return
		}
		_ = w.Receive(ctx, func(ctx context.Context, orders []tasker.Order) error {
			// What cannot be sent now is sent again, as a dispatcher would.
			if err := hub.Send(ctx, orders...); errors.Is(err, transport.ErrUnroutable) {
				t.Errorf("an order of the test: %v", err)
				return nil
			} else if err != nil {
				return err
			}
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		_ = hub.Close()
		server.Close()
		hubs.Wait()
	})
	link, err := httplink.NewLink(httplink.LinkOptions{
		URI: server.URL, Endpoint: endpoint, Instance: instance, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	return link
}

func (w *wire) change(fn func()) {
	w.mu.Lock()
	fn()
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
}

// wait returns when the condition holds, which may look at the wire's fields.
func (w *wire) wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		ok, changed := holds(), w.changed
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("waited in vain for %s; rows: %+v", what, w.rows)
		}
	}
}

func (w *wire) Send(_ context.Context, reports ...tasker.Report) error {
	// What is sent is what JSON makes of it.
	data, err := json.Marshal(reports)
	if err != nil {
		return err
	}
	reports = nil
	if err := json.Unmarshal(data, &reports); err != nil {
		return err
	}
	failed := map[int]error{}
	down := false
	w.change(func() {
		if down = w.down; down {
			return
		}
		for i, r := range reports {
			if w.refuse != nil && w.refuse(r) {
				failed[i] = transport.ErrRefused
				continue
			}
			w.take(r)
		}
	})
	switch {
	case down:
		return transport.ErrUnavailable
	case len(failed) > 0:
		return &transport.SendError{Failed: failed, Of: len(reports)}
	}
	return nil
}

func (w *wire) take(r tasker.Report) {
	w.reports = append(w.reports, r)
	if r.Hello != nil && !w.mute {
		welcome := tasker.Order{
			Version: 1, Endpoint: r.Endpoint,
			Welcome: &tasker.Welcome{Session: r.Hello.Session, Now: w.time(), Heartbeat: tasker.Duration(w.heartbeat)},
		}
		if w.key != nil {
			_ = welcome.Sign(w.key) // it is a welcome
		}
		w.batches = append(w.batches, []tasker.Order{welcome})
	}
	if u := r.Update; u != nil {
		ref := journal.Ref{TaskID: u.TaskID, Attempt: u.Attempt}
		row, ok := w.rows[ref]
		if !ok {
			row = tasker.Response{TaskID: u.TaskID, Attempt: u.Attempt, Status: tasker.Sent}
		}
		w.rows[ref], _ = row.Apply(*u)
		if w.output[ref] == nil {
			w.output[ref] = map[int64]byte{}
		}
		for _, c := range u.Output {
			for i, b := range c.Data {
				w.output[ref][c.Offset+int64(i)] = b
			}
		}
	}
}

func (w *wire) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	if err := handle(ctx, nil); err != nil {
		return err
	}
	for {
		w.mu.Lock()
		var batch []tasker.Order
		ready := len(w.batches) > 0 && !w.down
		if ready {
			batch = w.batches[0]
		}
		changed := w.changed
		w.mu.Unlock()
		if ready {
			if err := handle(ctx, batch); err != nil {
				w.change(func() { w.held++ })
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			w.change(func() { w.batches = w.batches[1:] })
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.closed:
			return transport.ErrClosed
		}
	}
}

func (w *wire) Close() error { close(w.closed); return nil }

// order hands a batch to the agent.
func (w *wire) order(orders ...tasker.Order) {
	w.change(func() { w.batches = append(w.batches, orders) })
}

func (w *wire) row(id string, attempt int) tasker.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows[journal.Ref{TaskID: id, Attempt: attempt}]
}

// ended waits until the first attempt of a task has ended.
func (w *wire) ended(t testing.TB, id string) tasker.Response {
	t.Helper()
	w.reached(t, id, tasker.Succeeded)
	return w.row(id, 1)
}

// reached waits until the first attempt is at least as far as a status.
func (w *wire) reached(t testing.TB, id string, status tasker.ResponseStatus) {
	t.Helper()
	w.wait(t, id+" to be "+string(status), func() bool {
		return w.rows[journal.Ref{TaskID: id, Attempt: 1}].Status.Rank() >= status.Rank()
	})
}

// updates of a task, in the order of their arrival.
func (w *wire) updates(id string) []tasker.Update {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []tasker.Update
	for _, r := range w.reports {
		if r.Update != nil && r.Update.TaskID == id {
			all = append(all, *r.Update)
		}
	}
	return all
}

// printed is the kept output, with '.' for what is missing below the end.
func (w *wire) printed(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.output[journal.Ref{TaskID: id, Attempt: 1}]
	var b strings.Builder
	for i, n := int64(0), 0; n < len(out); i++ {
		if c, ok := out[i]; ok {
			b.WriteByte(c)
			n++
		} else {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// assign orders a task, with a deadline that no agent misses.
func assign(w *wire, id, handler string) tasker.Order {
	return tasker.Order{
		Version: 1, Endpoint: endpoint, Type: handler,
		Assignment: &tasker.Assignment{
			TaskID: id, Identifier: "i-" + id, Attempt: 1, Handler: handler,
			Payload: json.RawMessage(`{"id":"` + id + `"}`), Deadline: w.time().Add(patience),
		},
	}
}

func cancel(w *wire, id string) tasker.Order {
	return tasker.Order{
		Version: 1, Endpoint: endpoint, Type: "work",
		Cancel: &tasker.Cancel{TaskID: id, Attempt: 1, Deadline: w.time().Add(patience)},
	}
}

// handler is a real one, made of a function.
type handler struct {
	info   handlers.Info
	handle func(context.Context, handlers.Call) (handlers.Result, error)
}

func (h handler) Info() handlers.Info { return h.info }

func (h handler) Handle(ctx context.Context, c handlers.Call) (handlers.Result, error) {
	return h.handle(ctx, c)
}

func work(name string, fn func(context.Context, handlers.Call) (handlers.Result, error)) handler {
	return handler{info: handlers.Info{Name: name}, handle: fn}
}

// gate is a handler that says what it starts and waits to be let through.
type gate struct {
	handler
	started chan string
	pass    chan struct{}
}

func newGate(name string, restart handlers.Restart) *gate {
	g := &gate{started: make(chan string, 2000), pass: make(chan struct{})}
	g.info = handlers.Info{Name: name, Restart: restart}
	g.handle = func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		g.started <- c.TaskID
		select {
		case <-g.pass:
			return handlers.Result{Value: map[string]any{"resumed": c.Resumed, "attempt": c.Attempt}}, nil
		case <-ctx.Done():
			return handlers.Result{}, context.Cause(ctx)
		}
	}
	return g
}

func (g *gate) next(t testing.TB) string {
	t.Helper()
	select {
	case id := <-g.started:
		return id
	case <-time.After(patience):
		t.Fatal("no handler was started")
		return ""
	}
}

// rig is a running agent.
type rig struct {
	*wire
	dir     string
	journal *journal.Journal
	reg     *prometheus.Registry
	exited  chan struct{}
	// stop stops it and returns the error of Run.
	stop func() error
}

type change func(*agent.Options)

// start runs an agent on dir until the test ends or stop is called.
func start(t testing.TB, w *wire, dir string, hs []handlers.Handler, changes ...change) *rig {
	t.Helper()
	mux, err := handlers.NewMux(hs...)
	must(t, err)
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	reg := prometheus.NewRegistry()
	var link transport.Link = w
	closeLink := func() error { return nil }
	if !w.direct {
		types := []tasker.TaskType{{Name: "work", Handler: mux.Names()[0]}}
		for _, name := range mux.Names() {
			types = append(types, tasker.TaskType{Name: name, Handler: name})
		}
		link = w.overHTTP(t, j.Instance(), types)
		closeLink = link.Close
	}
	opts := agent.Options{
		Endpoint: endpoint, Version: "1.2.3", Link: link, Journal: j, Handlers: mux,
		Metrics: agent.NewMetrics(reg), StopTimeout: time.Second, KillGrace: patience,
	}
	for _, c := range changes {
		c(&opts)
	}
	a, err := agent.New(opts)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var failed error
	r := &rig{wire: w, dir: dir, journal: j, reg: reg, exited: make(chan struct{})}
	go func() { failed = a.Run(ctx); close(r.exited) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		<-r.exited
		return errors.Join(failed, closeLink(), j.Close())
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// simple starts an agent with these handlers on a directory of its own.
func simple(t testing.TB, hs ...handlers.Handler) *rig {
	t.Helper()
	return start(t, newWire(), t.TempDir(), hs)
}

func statuses(us []tasker.Update) []tasker.ResponseStatus {
	var all []tasker.ResponseStatus
	for _, u := range us {
		all = append(all, u.Status)
	}
	return slices.Compact(all)
}
