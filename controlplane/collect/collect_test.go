package collect_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/collect"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// inbox is a database that can be unavailable, and that cannot store the reports of the
// endpoint "bad". It records all events in order.
type inbox struct {
	mu sync.Mutex // for applyErr and checkErr
	// applyErr and checkErr are the errors of Apply and Check.
	applyErr, checkErr error
	stored             []string
	tries              int
	events             []string
}

func (s *inbox) Apply(_ context.Context, reports []tasker.Report) (store.ApplyResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.applyErr != nil {
		return store.ApplyResult{}, s.applyErr
	}
	var applied store.ApplyResult
	for _, r := range reports {
		if r.Endpoint == "bad" {
			return store.ApplyResult{}, errors.New("this report cannot be stored")
		}
		if r.Hello != nil {
			applied.Orders = append(applied.Orders, tasker.Order{Endpoint: r.Endpoint, Welcome: &tasker.Welcome{Session: r.Hello.Session}})
		}
	}
	for _, r := range reports {
		s.stored = append(s.stored, r.Endpoint)
		applied.Reported = append(applied.Reported, store.AttemptKey{Endpoint: r.Endpoint})
	}
	applied.Finished = make([]tasker.Task, len(reports)-len(applied.Orders))
	s.events = append(s.events, "commit")
	return applied, nil
}

func (s *inbox) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checkErr
}

// set sets the database's errors.
func (s *inbox) set(applyErr, checkErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyErr, s.checkErr = applyErr, checkErr
}

// hub delivers batches as the transports do: again every second until a batch is
// acknowledged.
type hub struct {
	*inbox
	batches chan []tasker.Report
	sent    []tasker.Order
	sendErr error
}

func (h *hub) Send(_ context.Context, orders ...tasker.Order) error {
	h.events = append(h.events, "send")
	h.sent = append(h.sent, orders...)
	return h.sendErr
}

func (h *hub) Receive(ctx context.Context, handle func(context.Context, []tasker.Report) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch := <-h.batches:
			for handle(ctx, batch) != nil {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Second):
				}
			}
			h.events = append(h.events, "acknowledged")
		}
	}
}

func (h *hub) Close() error { return nil }

type fixture struct {
	*collect.Collector
	*hub
	reported []store.AttemptKey
	finished int
}

// start runs a Collector in the bubble of t until the test ends.
func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{hub: &hub{inbox: &inbox{}, batches: make(chan []tasker.Report)}}
	f.Collector = collect.New(collect.Options{
		Inbox: f.inbox, Hub: f.hub, Log: slog.New(slog.DiscardHandler), Metrics: collect.NewMetrics(prometheus.NewRegistry()),
		Reported: func(attempts []store.AttemptKey) { f.reported = append(f.reported, attempts...) },
		Finished: func(tasks []tasker.Task) { f.finished += len(tasks) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	return f
}

// report delivers a batch with an update of each endpoint.
func (f *fixture) report(endpoints ...string) {
	var batch []tasker.Report
	for _, name := range endpoints {
		batch = append(batch, tasker.Report{Endpoint: name, Update: &tasker.Update{}})
	}
	f.batches <- batch
	synctest.Wait()
}

// sleep lets the bubble's time pass.
func sleep(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time
	synctest.Wait()
}

func TestBatchIsKeptInOutage(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]struct{ applyErr, checkErr error }{
		"unavailable": {applyErr: store.ErrUnavailable},
		"faulty":      {applyErr: errors.New("disk I/O error"), checkErr: errors.New("disk I/O error")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				sleep(2 * time.Second)
				if f.IsBlocked() || !f.IsDrained() {
					t.Errorf("at first blocked: %t, drained: %t", f.IsBlocked(), f.IsDrained())
				}
				f.set(outage.applyErr, outage.checkErr)
				f.report("web-1", "web-2")
				sleep(time.Minute)
				if !f.IsBlocked() || f.IsDrained() || f.tries < 30 || len(f.stored) > 0 {
					t.Errorf("in the outage blocked: %t, drained: %t, %d tries, stored: %q", f.IsBlocked(), f.IsDrained(), f.tries, f.stored)
				}
				f.set(nil, nil)
				sleep(time.Second)
				if f.IsBlocked() || !f.IsDrained() || !slices.Equal(f.stored, []string{"web-1", "web-2"}) || f.finished != 2 || len(f.reported) != 2 {
					t.Errorf("afterwards blocked: %t, drained: %t, stored: %q, finished: %d", f.IsBlocked(), f.IsDrained(), f.stored, f.finished)
				}
			})
		})
	}
}

func TestBadReportIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report("web-1", "bad", "web-2")
		if !slices.Equal(f.stored, []string{"web-1", "web-2"}) || f.IsBlocked() || f.events[len(f.events)-1] != "acknowledged" {
			t.Errorf("stored %q, blocked: %t, then %q", f.stored, f.IsBlocked(), f.events)
		}
	})
}

func TestLargeBatchIsSignOfBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report(slices.Repeat([]string{"web-1"}, 49)...)
		if !f.IsDrained() {
			t.Error("a small batch counts as a backlog")
		}
		f.report(slices.Repeat([]string{"web-1"}, 50)...)
		if f.IsDrained() || f.IsBlocked() {
			t.Errorf("after a large batch drained: %t, blocked: %t", f.IsDrained(), f.IsBlocked())
		}
		sleep(1001 * time.Millisecond)
		if !f.IsDrained() {
			t.Error("not drained a second later")
		}
	})
}

func TestOrdersAreSentAfterCommit(t *testing.T) {
	t.Parallel()
	for name, sendErr := range map[string]error{"sent": nil, "lost": errors.New("no connection")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				f.sendErr = sendErr
				f.batches <- []tasker.Report{{Endpoint: "web-1", Hello: &tasker.Hello{Session: "s"}}}
				synctest.Wait()
				if want := []string{"commit", "send", "acknowledged"}; !slices.Equal(f.events, want) {
					t.Errorf("%q, want %q", f.events, want)
				}
				if len(f.sent) != 1 || f.sent[0].Endpoint != "web-1" || f.sent[0].Welcome.Session != "s" {
					t.Errorf("sent %+v", f.sent)
				}
			})
		})
	}
}

func TestEmptyBatchStoresNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report()
		if f.tries != 0 || f.IsBlocked() {
			t.Errorf("%d batches stored, blocked: %t", f.tries, f.IsBlocked())
		}
	})
}
