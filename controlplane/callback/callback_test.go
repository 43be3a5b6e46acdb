package callback

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A receiver that misbehaves does not delay the others. Every call is signed, and a retry
// has the same id and body.
func TestDelivery(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, options(t))
			r := newReceiver(t, f.key)
			f.run()
			tasks := map[string]string{}
			for _, path := range []string{"/stalls", "/good", "/flaky", "/aborts", "/moved", "/gone", "/floods"} {
				tasks[path] = f.finish(path[1:], r.URL+path)
			}
			for path, attempts := range map[string]int{"/good": 1, "/flaky": 2, "/aborts": 2, "/floods": 1} {
				d := f.awaitDelivery(tasks[path], tasker.DeliveryDelivered)
				if d.Attempts != attempts || d.DeliveredAt == nil || (d.LastError == "") != (attempts == 1) || d.Event != tasker.CallbackFinished {
					t.Errorf("%s: %+v", path, d)
				}
				calls := r.requestsTo(path)
				for i, c := range calls {
					if c.signatureErr != nil || c.id != d.ID || c.body != calls[0].body {
						t.Errorf("%s, call %d: %+v, the delivery is %+v", path, i, c, d)
					}
				}
			}
			var m struct {
				Type      string
				Timestamp time.Time
				Data      map[string]any
			}
			must(t, json.Unmarshal([]byte(r.requestsTo("/good")[0].body), &m))
			if m.Type != "task.finished" || !m.Timestamp.Equal(f.delivery(tasks["/good"]).At) || m.Data["id"] != tasks["/good"] || m.Data["status"] != "succeeded" ||
				fmt.Sprint(m.Data["counts"]) != "map[succeeded:1]" || m.Data["payload"] != nil {
				t.Errorf("the body is %+v", m)
			}
			if d := f.awaitDelivery(tasks["/gone"], tasker.DeliveryGivenUp); d.Attempts != 1 || !strings.Contains(d.LastError, "410") || d.NextAttemptAt != nil {
				t.Errorf("/gone: %+v", d)
			}
			wait.For(t, "/moved to be tried twice", func() bool { return len(r.requestsTo("/moved")) >= 2 })
			wait.For(t, "its error", func() bool { return strings.Contains(f.delivery(tasks["/moved"]).LastError, "307") })
			if calls := r.requestsTo("/elsewhere"); len(calls) > 0 {
				t.Errorf("a redirect was followed: %+v", calls)
			}
			if d := f.delivery(tasks["/stalls"]); d.Status != tasker.DeliveryWaiting || d.Attempts != 1 {
				t.Errorf("/stalls: %+v", d)
			}
			close(r.release)
			f.awaitDelivery(tasks["/stalls"], tasker.DeliveryDelivered)
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

// A call that times out is retried, and occupies no more than its slot.
func TestStalledCallsAreRetried(t *testing.T) {
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
	f.restart() // without a timeout
	close(r.release)
	f.run()
	for _, task := range tasks {
		f.awaitDelivery(task, tasker.DeliveryDelivered)
	}
}

func TestConcurrentCallsAreBounded(t *testing.T) {
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
		t.Errorf("with two slots for five calls, %d calls are left; more: %v", len(calls), more)
	}
	close(r.release)
	f.caller.attempts.Wait()
	f.caller.http.CloseIdleConnections()
}

// A call that a stop interrupts is due at once for the next Caller.
func TestStopMakesCallsDue(t *testing.T) {
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
	if d := f.awaitDelivery(task, tasker.DeliveryDelivered); d.Attempts != 2 {
		t.Errorf("%+v", d)
	}
}

func TestCallbackIsGivenUpAfterADay(t *testing.T) {
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
	if d := f.awaitDelivery(task, tasker.DeliveryGivenUp); d.Attempts != 2 || len(r.requestsTo("/moved")) != 2 {
		t.Errorf("%+v after %d calls", d, len(r.requestsTo("/moved")))
	}
}

// A URL that is no longer allowed is not called.
func TestRulesApplyToEveryCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t, storetest.SQLite(t))
	r := newReceiver(t, f.key)
	rules, err := urlrules.New("callbacks.allow", []string{"https://hooks.example.net"})
	must(t, err)
	f.caller.opts.Check = rules.Check
	task := f.finish("x", r.URL+"/good")
	f.run()
	wait.For(t, "an attempt", func() bool { return strings.Contains(f.delivery(task).LastError, "callbacks.allow") })
	if calls := r.requestsTo("/good"); len(calls) > 0 {
		t.Errorf("the URL was called: %+v", calls)
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
