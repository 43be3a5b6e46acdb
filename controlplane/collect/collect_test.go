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

// sink is a database that can be away, and that cannot store the reports of the
// endpoint "bad". What happens is written down in order.
type sink struct {
	mu         sync.Mutex // for what the test changes while the Collector runs
	away, sick error
	stored     []string
	tries      int
	events     []string
}

func (s *sink) Apply(_ context.Context, reports []tasker.Report) (store.ApplyResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.away != nil {
		return store.ApplyResult{}, s.away
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
	}
	applied.Finished = make([]tasker.Task, len(reports)-len(applied.Orders))
	s.events = append(s.events, "commit")
	return applied, nil
}

func (s *sink) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sick
}

// set says what the database answers from now on.
func (s *sink) set(away, sick error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.sick = away, sick
}

// hub hands over the batches it is given, each until it is acknowledged, a second
// apart, as the transports do.
type hub struct {
	*sink
	batches  chan []tasker.Report
	answered []tasker.Order
	lost     error
}

func (h *hub) Send(_ context.Context, orders ...tasker.Order) error {
	h.events = append(h.events, "answer")
	h.answered = append(h.answered, orders...)
	return h.lost
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
	finished int
}

// start runs a Collector in the bubble of t until the test ends.
func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{hub: &hub{sink: &sink{}, batches: make(chan []tasker.Report)}}
	f.Collector = collect.New(collect.Options{
		Sink: f.sink, Hub: f.hub, Log: slog.New(slog.DiscardHandler), Metrics: collect.NewMetrics(prometheus.NewRegistry()),
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

// report hands over a batch with an update of each endpoint.
func (f *fixture) report(endpoints ...string) {
	var batch []tasker.Report
	for _, name := range endpoints {
		batch = append(batch, tasker.Report{Endpoint: name, Update: &tasker.Update{}})
	}
	f.batches <- batch
	synctest.Wait()
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time
	synctest.Wait()
}

func TestABatchIsHeldWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]struct{ away, sick error }{
		"away": {away: store.ErrUnavailable},
		"sick": {away: errors.New("disk I/O error"), sick: errors.New("disk I/O error")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				pass(2 * time.Second)
				if f.Held() || !f.Drained() {
					t.Errorf("at first held: %t, drained: %t", f.Held(), f.Drained())
				}
				f.set(outage.away, outage.sick)
				f.report("web-1", "web-2")
				pass(time.Minute)
				if !f.Held() || f.Drained() || f.tries < 30 || len(f.stored) > 0 {
					t.Errorf("in the outage held: %t, drained: %t, %d tries, stored: %q", f.Held(), f.Drained(), f.tries, f.stored)
				}
				f.set(nil, nil)
				pass(time.Second)
				if f.Held() || !f.Drained() || !slices.Equal(f.stored, []string{"web-1", "web-2"}) || f.finished != 2 {
					t.Errorf("afterwards held: %t, drained: %t, stored: %q, finished: %d", f.Held(), f.Drained(), f.stored, f.finished)
				}
			})
		})
	}
}

func TestOneBadReportIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report("web-1", "bad", "web-2")
		if !slices.Equal(f.stored, []string{"web-1", "web-2"}) || f.Held() || f.events[len(f.events)-1] != "acknowledged" {
			t.Errorf("stored %q, held: %t, then %q", f.stored, f.Held(), f.events)
		}
	})
}

func TestALargeBatchIsASignOfABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report(slices.Repeat([]string{"web-1"}, 49)...)
		if !f.Drained() {
			t.Error("a small batch counts as a backlog")
		}
		f.report(slices.Repeat([]string{"web-1"}, 50)...)
		if f.Drained() || f.Held() {
			t.Errorf("after a large batch drained: %t, held: %t", f.Drained(), f.Held())
		}
		pass(1001 * time.Millisecond)
		if !f.Drained() {
			t.Error("not drained a second later")
		}
	})
}

func TestAnswersAreSentAfterTheCommit(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]error{"sent": nil, "lost": errors.New("broker is away")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				f.lost = lost
				f.batches <- []tasker.Report{{Endpoint: "web-1", Hello: &tasker.Hello{Session: "s"}}}
				synctest.Wait()
				if want := []string{"commit", "answer", "acknowledged"}; !slices.Equal(f.events, want) {
					t.Errorf("%q, want %q", f.events, want)
				}
				if len(f.answered) != 1 || f.answered[0].Endpoint != "web-1" || f.answered[0].Welcome.Session != "s" {
					t.Errorf("answered %+v", f.answered)
				}
			})
		})
	}
}

func TestAnEmptyBatchStoresNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.report()
		if f.tries != 0 || f.Held() {
			t.Errorf("%d batches stored, held: %t", f.tries, f.Held())
		}
	})
}
