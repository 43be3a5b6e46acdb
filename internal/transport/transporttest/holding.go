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

var errAway = errors.New("the disk is away")

// refusing refuses the first batch it is given a few times and then takes
// everything. It checks that it is the same batch each time, whatever was done
// to it, and that nothing overtakes it.
func refusing[M any](t *testing.T, name func([]M) []string) (hold func(context.Context, []M) error, times *atomic.Int32) {
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
			t.Errorf("handed over %q after %q was refused", got, first)
		}
		if times.Add(1) > refusals {
			return nil
		}
		clear(batch) // it is the handler's until it returns
		return errAway
	}, times
}

func hubHolds(t *testing.T, f Fabric) {
	const n = 300
	hold, times := refusing(t, tasks)
	h := f.holdingHub(t, hold)
	a := f.introduced(t, h, "web-1", "ping")
	reports := updates("web-1", "report", n)
	if err := a.Send(t.Context(), reports...); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	wait.For(t, "the reports", func() bool { return len(tasks(h.in.all())) >= n })
	if diff := cmp.Diff(reports, h.in.all()[1:]); diff != "" {
		t.Errorf("reports, in order and once (-want +got):\n%.2000s", diff)
	}
	if times.Load() < 2 {
		t.Error("no batch was refused; nothing was tested")
	}
}

func linkHolds(t *testing.T, f Fabric) {
	const n = 300
	hold, times := refusing(t, told)
	h := f.hub(t)
	a := f.holdingAgent(t, "web-1", hold, "ping")
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

// heldBatchOutlives closes a hub, and where orders are queued a link, that
// holds a batch: what was not taken comes to the next one.
func heldBatchOutlives(t *testing.T, f Fabric) {
	var held atomic.Int32
	first := f.holdingHub(t, func(_ context.Context, batch []tasker.Report) error {
		if len(tasks(batch)) > 0 {
			held.Add(1)
			return errAway
		}
		return nil
	})
	const n = 500
	a := f.introduced(t, first, "web-1", "ping")
	meanwhile(t, a.Conn, updates("web-1", "report", n)...)
	wait.For(t, "the reports to be held", func() bool { return held.Load() > 1 })
	first.close(t)
	second := f.hub(t)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), tasks(second.in.all())) == nil })
	if !f.Queues {
		return
	}

	held.Store(0)
	holder := f.holdingAgent(t, "web-2", func(context.Context, []tasker.Order) error {
		held.Add(1)
		return errAway
	}, "ping")
	wait.For(t, "the hello", func() bool { return hellos(second, "web-2") > 0 })
	second.send(t, assignments("web-2", "order", n)...)
	wait.For(t, "the orders to be held", func() bool { return held.Load() > 1 })
	holder.close(t)
	next := f.agent(t, "web-2", "ping")
	wait.For(t, "the orders", func() bool { return missing(names("order", n), told(next.in.all())) == nil })
}

func hubDown(t *testing.T, f Fabric) {
	first := f.hub(t)
	a := f.introduced(t, first, "web-1", "ping")
	first.close(t)
	const n = 500
	reports := updates("web-1", "report", n)
	// Where nothing stands between, nobody takes them.
	err := a.Send(t.Context(), reports...)
	if !f.Queues && !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Send without a hub returned %v, want ErrUnavailable", err)
	}
	if err != nil {
		meanwhile(t, a.Conn, unsent(reports, err)...)
	}
	second := f.hub(t)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), tasks(second.in.all())) == nil })
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
	// Where nothing stands between, nobody takes them.
	err := a.Send(ctx, updates("web-1", "report", n)...)
	if !f.Queues && err == nil {
		t.Error("Send to a hub that does not receive returned nil")
	}
	if err != nil {
		meanwhile(t, a, unsent(updates("web-1", "report", n), err)...)
	}
	receiving := work(t, h, nil)
	wait.For(t, "the reports", func() bool { return missing(names("report", n), tasks(receiving.in.all())) == nil })
}

// heldOverCuts cuts the wires while both ends hold a batch, several times, and
// lets them take it after that.
func heldOverCuts(t *testing.T, f Fabric) {
	var reports, orders atomic.Int32
	var stored atomic.Bool
	h := f.holdingHub(t, func(_ context.Context, batch []tasker.Report) error {
		if len(tasks(batch)) > 0 && !stored.Load() {
			reports.Add(1)
			return errAway
		}
		return nil
	})
	a := f.holdingAgent(t, "web-1", func(context.Context, []tasker.Order) error {
		if !stored.Load() {
			orders.Add(1)
			return errAway
		}
		return nil
	}, "ping")
	wait.For(t, "the hello", func() bool { return hellos(h, "web-1") > 0 })
	h.send(t, assignment("web-1", "ping", "order"))
	meanwhile(t, a.Conn, update("web-1", "report"))
	for range 3 {
		seenReports, seenOrders := reports.Load(), orders.Load()
		wait.For(t, "both to be held", func() bool { return reports.Load() > seenReports && orders.Load() > seenOrders })
		for _, w := range f.wires() {
			w.Cut()
		}
	}
	stored.Store(true)
	wait.For(t, "the order", func() bool { return missing([]string{"order"}, told(a.in.all())) == nil })
	wait.For(t, "the report", func() bool { return missing([]string{"report"}, tasks(h.in.all())) == nil })
}
