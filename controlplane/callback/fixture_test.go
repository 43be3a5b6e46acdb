package callback

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// request is one received callback.
type request struct {
	path, id, timestamp, body string
	signatureErr              error
}

// receiver is a server of callbacks. The path decides how it responds.
type receiver struct {
	*httptest.Server
	webhook *standardwebhooks.Webhook
	release chan struct{} // closed to let stalled requests continue

	mu       sync.Mutex
	calls    []request
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
	r.calls = append(r.calls, request{
		req.URL.Path, req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), string(body),
		errors.Join(err, r.webhook.Verify(body, req.Header)),
	})
	r.mu.Unlock()
	first := len(r.requestsTo(req.URL.Path)) == 1
	switch req.URL.Path {
	case "/flaky":
		if first {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case "/aborts":
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

func (r *receiver) requestsTo(path string) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []request
	for _, c := range r.calls {
		if c.path == path {
			list = append(list, c)
		}
	}
	return list
}

// fixture is a store with a Caller that retries soon.
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
	f := &fixture{t: t, Store: storetest.Open(t, o), key: NewKey([]byte("secret of the installation"))}
	f.restart()
	return f
}

// restart creates a new Caller. Its attempts have no timeout, so that a slow machine fails
// none.
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

// finish creates a task with a callback and ends it. It returns the id.
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

func (f *fixture) awaitDelivery(task string, want tasker.DeliveryStatus) tasker.Delivery {
	f.t.Helper()
	wait.For(f.t, "the delivery to be "+string(want), func() bool { return f.delivery(task).Status == want })
	return f.delivery(task)
}
