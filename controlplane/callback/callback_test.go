package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// received is one call as it arrived.
type received struct {
	path, id, timestamp, body string
	invalid                   error
}

// receiver answers in every way, by path, and verifies what it gets.
type receiver struct {
	*httptest.Server
	webhook *standardwebhooks.Webhook
	release chan struct{} // closed when those who stall may go on

	mu       sync.Mutex
	calls    []received
	stalling int
}

func newReceiver(t *testing.T, key Key) *receiver {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(key.Reveal())
	must(t, err)
	r := &receiver{webhook: webhook, release: make(chan struct{})}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() {
		select {
		case <-r.release:
		default:
			close(r.release)
		}
		r.Close()
	})
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	r.calls = append(r.calls, received{
		req.URL.Path, req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), string(body),
		errors.Join(err, r.webhook.Verify(body, req.Header)),
	})
	r.mu.Unlock()
	first := len(r.of(req.URL.Path)) == 1
	switch req.URL.Path {
	case "/flaky":
		if first {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case "/dies":
		if first {
			panic(http.ErrAbortHandler)
		}
	case "/stalls":
		r.stall(1)
		select {
		case <-r.release:
		case <-req.Context().Done():
		}
		r.stall(-1)
	case "/moved":
		http.Redirect(w, req, "/elsewhere", http.StatusTemporaryRedirect)
	case "/gone":
		w.WriteHeader(http.StatusGone)
	case "/floods":
		for req.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}
}

func (r *receiver) stall(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stalling += n
}

func (r *receiver) stalled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stalling
}

func (r *receiver) of(path string) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []received
	for _, c := range r.calls {
		if c.path == path {
			list = append(list, c)
		}
	}
	return list
}

// fixture is a store with a Caller that does not wait long.
type fixture struct {
	*store.Store
	t      *testing.T
	key    Key
	reg    *prometheus.Registry
	caller *Caller
}

func newFixture(t *testing.T, o store.Options) *fixture {
	t.Helper()
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}}
	f := &fixture{t: t, Store: storetest.Open(t, o)}
	var err error
	f.key, err = LoadKey(t.Context(), f)
	must(t, err)
	f.restart()
	return f
}

// restart makes a new Caller, which gives up no attempt because the machine is slow.
func (f *fixture) restart() {
	f.reg = prometheus.NewRegistry()
	f.caller = New(Options{
		Store: f, Key: f.key, Check: urlrules.Rules{}.Check, Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(f.reg), Poll: 20 * time.Millisecond,
	})
	f.caller.retry = backoff.Policy{First: 10 * time.Millisecond, Cap: 50 * time.Millisecond}
	f.caller.http.Timeout = time.Hour
}

// run runs the Caller until the returned function is called, or the test ends.
func (f *fixture) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	done := make(chan error, 1)
	caller := f.caller
	go func() { done <- caller.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			f.t.Errorf("Run = %v", err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// finish makes a task that calls the URL, and ends it.
func (f *fixture) finish(identifier, url string) string {
	f.t.Helper()
	task, _, err := f.CreateTask(f.t.Context(), store.NewTask{
		Identifier: identifier, Type: "ping", Payload: []byte(`{"secret":1}`), Endpoints: []string{"a"}, ReceiveTimeout: time.Minute,
		Callback: &tasker.Callback{URL: url, Events: tasker.CallbackEvents()},
	})
	must(f.t, err)
	_, err = f.Apply(f.t.Context(), []tasker.Report{{Version: 1, Endpoint: "a", Update: &tasker.Update{
		TaskID: task.ID, Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Succeeded,
	}}})
	must(f.t, err)
	return task.ID
}

func (f *fixture) delivery(task string) tasker.Delivery {
	f.t.Helper()
	list, err := f.Deliveries(f.t.Context(), task)
	must(f.t, err)
	if len(list) != 1 {
		f.t.Fatalf("%d deliveries: %+v", len(list), list)
	}
	return list[0]
}

func (f *fixture) becomes(task string, want tasker.DeliveryStatus) tasker.Delivery {
	f.t.Helper()
	wait.For(f.t, "the delivery to be "+string(want), func() bool { return f.delivery(task).Status == want })
	return f.delivery(task)
}

// Whatever a receiver does, the others hear of their tasks, each call is signed,
// and what failed is called again with the same id and body.
func TestDelivery(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(testing.TB) store.Options{"sqlite": storetest.SQLite, "mysql": storetest.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, options(t))
			r := newReceiver(t, f.key)
			f.run()
			tasks := map[string]string{}
			for _, path := range []string{"/stalls", "/good", "/flaky", "/dies", "/moved", "/gone", "/floods"} {
				tasks[path] = f.finish(path[1:], r.URL+path)
			}
			for path, attempts := range map[string]int{"/good": 1, "/flaky": 2, "/dies": 2, "/floods": 1} {
				d := f.becomes(tasks[path], tasker.DeliveryDelivered)
				if d.Attempts != attempts || d.DeliveredAt == nil || (d.LastError == "") != (attempts == 1) || d.Event != tasker.CallbackFinished {
					t.Errorf("%s: %+v", path, d)
				}
				calls := r.of(path)
				for i, c := range calls {
					if c.invalid != nil || c.id != d.ID || c.body != calls[0].body {
						t.Errorf("%s, call %d: %+v, the delivery is %+v", path, i, c, d)
					}
				}
			}
			var m struct {
				Type      string
				Timestamp time.Time
				Data      map[string]any
			}
			must(t, json.Unmarshal([]byte(r.of("/good")[0].body), &m))
			if m.Type != "task.finished" || !m.Timestamp.Equal(f.delivery(tasks["/good"]).At) || m.Data["id"] != tasks["/good"] || m.Data["status"] != "succeeded" ||
				fmt.Sprint(m.Data["counts"]) != "map[succeeded:1]" || m.Data["payload"] != nil {
				t.Errorf("the body is %+v", m)
			}
			if d := f.becomes(tasks["/gone"], tasker.DeliveryGivenUp); d.Attempts != 1 || !strings.Contains(d.LastError, "410") || d.NextAttemptAt != nil {
				t.Errorf("/gone: %+v", d)
			}
			wait.For(t, "/moved to be tried twice", func() bool { return len(r.of("/moved")) >= 2 })
			wait.For(t, "its error", func() bool { return strings.Contains(f.delivery(tasks["/moved"]).LastError, "307") })
			if calls := r.of("/elsewhere"); len(calls) > 0 {
				t.Errorf("a redirect was followed: %+v", calls)
			}
			if d := f.delivery(tasks["/stalls"]); d.Status != tasker.DeliveryWaiting || d.Attempts != 1 {
				t.Errorf("/stalls: %+v", d)
			}
			close(r.release)
			f.becomes(tasks["/stalls"], tasker.DeliveryDelivered)
			got, err := testutil.GatherAndCount(f.reg, "tasker_controlplane_callback_attempts_total")
			if err != nil || got != 3 {
				t.Errorf("%d series, %v", got, err)
			}
			for outcome, n := range map[string]float64{delivered: 5, givenUp: 1} {
				wait.For(t, outcome+" to be counted", func() bool {
					return testutil.ToFloat64(f.caller.opts.Metrics.attempts.WithLabelValues(outcome)) == n
				})
			}
		})
	}
}

// Who does not answer in time is tried again, and does not hold up more than the
// room there is.
func TestStalledAttempts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, storetest.SQLite(t))
	r := newReceiver(t, f.key)
	f.caller.http.Timeout, f.caller.slots = 100*time.Millisecond, make(chan struct{}, 2)
	var tasks []string
	for i := range 5 {
		tasks = append(tasks, f.finish(fmt.Sprint(i), r.URL+"/stalls"))
	}
	stop := f.run()
	wait.For(t, "each to be tried twice", func() bool {
		for _, task := range tasks {
			if f.delivery(task).Attempts < 2 {
				return false
			}
		}
		return true
	})
	if d := f.delivery(tasks[0]); d.LastError == "" || strings.Contains(d.LastError, r.URL) {
		t.Errorf("the error is %q", d.LastError)
	}
	stop()
	f.restart() // with time to answer
	close(r.release)
	f.run()
	for _, task := range tasks {
		f.becomes(task, tasker.DeliveryDelivered)
	}
}

func TestRoomIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, storetest.SQLite(t))
	r := newReceiver(t, f.key)
	f.caller.slots = make(chan struct{}, 2)
	for i := range 5 {
		f.finish(fmt.Sprint(i), r.URL+"/stalls")
	}
	more, err := f.caller.round(t.Context())
	must(t, err)
	wait.For(t, "two attempts", func() bool { return r.stalled() == 2 })
	calls, err := f.ClaimCalls(t.Context(), 10)
	must(t, err)
	if !more || len(calls) != 3 {
		t.Errorf("with room for two of five, %d are left; more: %v", len(calls), more)
	}
	close(r.release)
	f.caller.attempts.Wait()
	f.caller.http.CloseIdleConnections()
}

// What a stop cuts off is due again at once, for whoever comes next.
func TestStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, storetest.SQLite(t))
	r := newReceiver(t, f.key)
	task := f.finish("x", r.URL+"/stalls")
	stop := f.run()
	wait.For(t, "the attempt", func() bool { return r.stalled() == 1 })
	stop()
	if d := f.delivery(task); d.Status != tasker.DeliveryWaiting || d.LastError != errStopped.Error() {
		t.Errorf("after the stop: %+v", d)
	}
	close(r.release)
	f.restart()
	f.run()
	if d := f.becomes(task, tasker.DeliveryDelivered); d.Attempts != 2 {
		t.Errorf("%+v", d)
	}
}

func TestGivenUpAfterADay(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := storetest.SQLite(t)
	o.Clock = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	f := newFixture(t, o)
	r := newReceiver(t, f.key)
	task := f.finish("x", r.URL+"/moved")
	f.run()
	wait.For(t, "an attempt", func() bool { return f.delivery(task).LastError != "" })
	mu.Lock()
	now = now.Add(lifetime - time.Millisecond)
	mu.Unlock()
	if d := f.becomes(task, tasker.DeliveryGivenUp); d.Attempts != 2 || len(r.of("/moved")) != 2 {
		t.Errorf("%+v after %d calls", d, len(r.of("/moved")))
	}
}

// What is not allowed any more is not called.
func TestRulesAreAskedAtEachCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t, storetest.SQLite(t))
	r := newReceiver(t, f.key)
	rules, err := urlrules.New("callbacks.allow", []string{"https://hooks.example.net"})
	must(t, err)
	f.caller.opts.Check = rules.Check
	task := f.finish("x", r.URL+"/good")
	f.run()
	wait.For(t, "an attempt", func() bool { return strings.Contains(f.delivery(task).LastError, "callbacks.allow") })
	if calls := r.of("/good"); len(calls) > 0 {
		t.Errorf("it was called: %+v", calls)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "86400": time.Hour, "99999999999999999999": 0, "Fri, 02 Jan 2026 03:04:05 GMT": 0,
	} {
		if got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {value}}}, time.Hour); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
