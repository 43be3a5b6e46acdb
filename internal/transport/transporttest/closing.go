package transporttest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func sendCancelled(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Send(done, assignment("web-1", "ping", "never")); !errors.Is(err, context.Canceled) {
		t.Errorf("Send of an order with a context that is done returned %v", err)
	}
	if err := a.Send(done, update("web-1", "never")); !errors.Is(err, context.Canceled) {
		t.Errorf("Send of a report with a context that is done returned %v", err)
	}

	for _, w := range f.proxies() {
		w.Stall()
	}
	large := assignments("web-1", "large", 40) // more than the network buffers hold
	for i := range large {
		large[i].Assignment.Payload = json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	var begun atomic.Int32
	sending.Go(func() {
		begun.Add(1)
		if err := h.Send(ctx, large...); !errors.Is(err, context.Canceled) {
			t.Errorf("Send of orders, cancelled in progress, returned %v", err)
		}
	})
	sending.Go(func() {
		begun.Add(1)
		if err := a.Send(ctx, update("web-1", "stalled")); !errors.Is(err, context.Canceled) {
			t.Errorf("Send of a report, cancelled in progress, returned %v", err)
		}
	})
	wait.For(t, "both to begin", func() bool { return begun.Load() == 2 })
	cancel()
	sending.Wait()
	for _, w := range f.proxies() {
		w.Resume()
	}
	h.send(t, assignment("web-1", "ping", "order"))
	a.send(t, update("web-1", "report"))
	wait.For(t, "the order", func() bool { return missing([]string{"order"}, orderNames(a.in.all())) == nil })
	wait.For(t, "the report", func() bool { return missing([]string{"report"}, updatedTasks(h.in.all())) == nil })
}

func receiveCancelled(t *testing.T, f Fabric) {
	h, l := f.NewHub(t, taskTypes()), f.NewLink(t, "web-1", "journal-of-web-1", nil)
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), h.Close()); err != nil {
			t.Errorf("Close returned %v", err)
		}
	})
	// The second time it is cancelled while a batch is held.
	for _, hold := range []error{nil, errCannotStore} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var receiving sync.WaitGroup
		var signals, deliveries atomic.Int32
		receiving.Go(func() {
			err := h.Receive(ctx, func(context.Context, []tasker.Report) error {
				deliveries.Add(1)
				return hold
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the hub's Receive returned %v, want Canceled", err)
			}
		})
		receiving.Go(func() {
			err := l.Receive(ctx, func(context.Context, []tasker.Order) error {
				signals.Add(1)
				return hold
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the link's Receive returned %v, want Canceled", err)
			}
		})
		sendInBackground(t, l, hello("web-1", "ping"))
		wait.For(t, "the report and the signal", func() bool { return deliveries.Load() > 0 && signals.Load() > 0 })
		cancel(errors.New("a cause of the caller's own"))
		receiving.Wait()
	}
	// Both can still be used.
	again := startReceive(t, h, nil)
	startReceive(t, l, func(ctx context.Context, _ []tasker.Order) error { return l.Send(ctx, update("web-1", "again")) })
	wait.For(t, "the report", func() bool { return missing([]string{"again"}, updatedTasks(again.in.all())) == nil })
}

func closeEnds(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() { a.close(t) })
		closing.Go(func() { h.close(t) })
	}
	closing.Wait()
	a.close(t)
	h.close(t)
	for name, ended := range map[string]chan error{"hub": h.ended, "link": a.ended} {
		if err := <-ended; !errors.Is(err, transport.ErrClosed) { // Close has waited for it
			t.Errorf("Receive of the %s returned %v, want ErrClosed", name, err)
		}
	}
	if err := h.Send(t.Context(), assignment("web-1", "ping", "a"), assignment(tasker.AllEndpoints, "ping", "b")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send of a closed hub returned %v", err)
	}
	if err := a.Send(t.Context(), update("web-1", "a")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send of a closed link returned %v", err)
	}
	if err := h.Receive(t.Context(), h.in.handle); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Receive of a closed hub returned %v", err)
	}
	if err := a.Receive(t.Context(), a.in.handle); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Receive of a closed link returned %v", err)
	}
}

func closeWaits(t *testing.T, f Fabric) {
	began, ending, release := make(chan struct{}, 2), make(chan struct{}, 2), make(chan struct{})
	var reports, orders atomic.Bool
	last := func(ctx context.Context, finished *atomic.Bool) {
		began <- struct{}{}
		<-ctx.Done() // Close has begun
		ending <- struct{}{}
		<-release
		finished.Store(true)
	}
	h := f.hubWithHandler(t, func(ctx context.Context, batch []tasker.Report) error {
		if len(updatedTasks(batch)) > 0 {
			last(ctx, &reports)
		}
		return nil
	})
	a := f.agentWithHandler(t, "web-1", func(ctx context.Context, _ []tasker.Order) error {
		last(ctx, &orders)
		return nil
	}, "ping")
	wait.For(t, "the hello", func() bool { return hellos(h, "web-1") > 0 })
	h.send(t, assignment("web-1", "ping", "order"))
	var ends sync.WaitGroup
	ends.Go(func() { _ = a.Send(t.Context(), update("web-1", "report")) }) // ends with Close at the latest
	<-began
	<-began
	ends.Go(func() {
		h.close(t)
		if !reports.Load() {
			t.Error("Close of the hub returned before its handler")
		}
	})
	ends.Go(func() {
		a.close(t)
		if !orders.Load() {
			t.Error("Close of the link returned before its handler")
		}
	})
	<-ending
	<-ending
	close(release)
	ends.Wait()
	if diff := cmp.Diff([]string{"order"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func closeWithoutConnection(t *testing.T, f Fabric) {
	for _, w := range f.proxies() {
		w.Refuse()
	}
	h, a := f.hub(t), f.agent(t, "web-1", "ping")
	wait.For(t, "the observer to be notified", func() bool { return a.observed.isDisconnected("") })
	if err := a.Send(t.Context(), update("web-1", "a")); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Send of a report returned %v, want ErrUnavailable", err)
	}
	err := h.Send(t.Context(), assignment("web-1", "ping", "a"))
	if !errors.Is(err, transport.ErrUnavailable) && (f.Queues || !errors.Is(err, transport.ErrOffline)) {
		t.Errorf("Send of an order returned %v, want ErrUnavailable, or ErrOffline where nothing queues", err)
	}
	a.close(t)
	h.close(t)
}
