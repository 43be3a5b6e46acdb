package transporttest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

var errCannotStore = errors.New("the disk is not available")

// refusingHandler returns a handler that refuses the first batch a few times and then
// accepts everything. It checks that it gets the same batch each time, although it modifies
// the batch, and that no other batch arrives before.
func refusingHandler[M any](t *testing.T, name func([]M) []string) (hold func(context.Context, []M) error, times *atomic.Int32) {
	const refusals = 4
	times = &atomic.Int32{}
	var first []string
	return func(_ context.Context, batch []M) error {
		got := name(batch)
		if len(got) == 0 || times.Load() > refusals {
			return nil
		}
		if first == nil {
			first = slices.Clone(got)
		}
		if !slices.Equal(first, got) {
			t.Errorf("delivered %q after %q was refused", got, first)
		}
		if times.Add(1) > refusals {
			return nil
		}
		clear(batch) // it belongs to the handler until it returns
		return errCannotStore
	}, times
}

func hubHolds(t *testing.T, f Fabric) {
	const n = 300
	hold, times := refusingHandler(t, updatedTasks)
	h := f.hubWithHandler(t, hold)
	a := f.connectedAgent(t, h, "web-1", "ping")
	reports := updates("web-1", "report", n)
	if err := a.Send(t.Context(), reports...); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	wait.For(t, "the reports", func() bool { return len(updatedTasks(h.in.all())) >= n })
	if diff := cmp.Diff(reports, h.in.all()[1:]); diff != "" {
		t.Errorf("reports, in order and once (-want +got):\n%.2000s", diff)
	}
	if times.Load() < 2 {
		t.Error("no batch was refused; nothing was tested")
	}
}

func linkHolds(t *testing.T, f Fabric) {
	const n = 300
	hold, times := refusingHandler(t, orderNames)
	h := f.hub(t)
	a := f.agentWithHandler(t, "web-1", hold, "ping")
	wait.For(t, "the hello", func() bool { return hellos(h, "web-1") > 0 })
	orders := assignments("web-1", "order", n)
	if err := h.Send(t.Context(), orders...); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= n })
	if diff := cmp.Diff(orders, a.in.all()); diff != "" {
		t.Errorf("orders, in order and once (-want +got):\n%.2000s", diff)
	}
	if times.Load() < 2 {
		t.Error("no batch was refused; nothing was tested")
	}
}

// heldBatchIsRedelivered closes a hub that holds a batch, and a link if the transport queues
// orders. The next hub or link gets the batch.
func heldBatchIsRedelivered(t *testing.T, f Fabric) {
	var held atomic.Int32
	first := f.hubWithHandler(t, func(_ context.Context, batch []tasker.Report) error {
		if len(updatedTasks(batch)) > 0 {
			held.Add(1)
			return errCannotStore
		}
		return nil
	})
	const n = 500
	a := f.connectedAgent(t, first, "web-1", "ping")
	sendInBackground(t, a.Conn, updates("web-1", "report", n)...)
	wait.For(t, "the reports to be held", func() bool { return held.Load() > 1 })
	first.close(t)
	second := f.hub(t)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), updatedTasks(second.in.all())) == nil })
	if !f.Queues {
		return
	}

	held.Store(0)
	holder := f.agentWithHandler(t, "web-2", func(context.Context, []tasker.Order) error {
		held.Add(1)
		return errCannotStore
	}, "ping")
	wait.For(t, "the hello", func() bool { return hellos(second, "web-2") > 0 })
	second.send(t, assignments("web-2", "order", n)...)
	wait.For(t, "the orders to be held", func() bool { return held.Load() > 1 })
	holder.close(t)
	next := f.agent(t, "web-2", "ping")
	wait.For(t, "the orders", func() bool { return missing(names("order", n), orderNames(next.in.all())) == nil })
}

func hubDown(t *testing.T, f Fabric) {
	first := f.hub(t)
	a := f.connectedAgent(t, first, "web-1", "ping")
	first.close(t)
	const n = 500
	reports := updates("web-1", "report", n)
	// A transport without queues cannot accept them.
	err := a.Send(t.Context(), reports...)
	if !f.Queues && !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Send without a hub returned %v, want ErrUnavailable", err)
	}
	if err != nil {
		sendInBackground(t, a.Conn, unsent(reports, err)...)
	}
	second := f.hub(t)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), updatedTasks(second.in.all())) == nil })
}

func hubNotReceiving(t *testing.T, f Fabric) {
	h, a := f.NewHub(t, taskTypes()), f.NewLink(t, "web-1", "journal-of-web-1", nil)
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), h.Close()); err != nil {
			t.Errorf("Close returned %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	const n = 300
	// A transport without queues cannot accept them.
	err := a.Send(ctx, updates("web-1", "report", n)...)
	if !f.Queues && err == nil {
		t.Error("Send to a hub that does not receive returned nil")
	}
	if err != nil {
		sendInBackground(t, a, unsent(updates("web-1", "report", n), err)...)
	}
	receiving := startReceive(t, h, nil)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), updatedTasks(receiving.in.all())) == nil })
}

// heldDuringCuts cuts the connections several times while both ends hold a batch. After that
// both ends accept it.
func heldDuringCuts(t *testing.T, f Fabric) {
	var reports, orders atomic.Int32
	var stored atomic.Bool
	h := f.hubWithHandler(t, func(_ context.Context, batch []tasker.Report) error {
		if len(updatedTasks(batch)) > 0 && !stored.Load() {
			reports.Add(1)
			return errCannotStore
		}
		return nil
	})
	a := f.agentWithHandler(t, "web-1", func(context.Context, []tasker.Order) error {
		if !stored.Load() {
			orders.Add(1)
			return errCannotStore
		}
		return nil
	}, "ping")
	wait.For(t, "the hello", func() bool { return hellos(h, "web-1") > 0 })
	h.send(t, assignment("web-1", "ping", "order"))
	sendInBackground(t, a.Conn, update("web-1", "report"))
	for range 3 {
		seenReports, seenOrders := reports.Load(), orders.Load()
		wait.For(t, "both to be held", func() bool { return reports.Load() > seenReports && orders.Load() > seenOrders })
		for _, w := range f.proxies() {
			w.Cut()
		}
	}
	stored.Store(true)
	wait.For(t, "the order", func() bool { return missing([]string{"order"}, orderNames(a.in.all())) == nil })
	wait.For(t, "the report", func() bool { return missing([]string{"report"}, updatedTasks(h.in.all())) == nil })
}
