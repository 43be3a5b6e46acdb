package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func orderAfterHello(t *testing.T, f Fabric) {
	conn := f.NewHub(t, taskTypes())
	h := startReceive(t, conn, func(ctx context.Context, batch []tasker.Report) error {
		for _, r := range batch {
			if r.Hello == nil {
				continue
			}
			if err := conn.Send(ctx, welcome(r.Endpoint), assignment(r.Endpoint, "update-app", "first")); err != nil {
				t.Errorf("Send to %s during the delivery of its hello returned %v", r.Endpoint, err)
			}
		}
		return nil
	})
	a := f.agent(t, "web-1", tasker.ScriptHandler)
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= 2 })
	got := a.in.all()
	if diff := cmp.Diff([]string{"welcome", "first"}, orderNames(got)); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	if w := got[0].Welcome; w == nil || w.Session != "session-of-web-1" {
		t.Errorf("welcome %+v", w)
	}
	wait.For(t, "the hello to be kept", func() bool { return len(h.in.all()) > 0 })
	first := h.in.all()[0]
	want := hello("web-1", tasker.ScriptHandler)
	if diff := cmp.Diff(want.Hello, first.Hello); diff != "" || first.Instance != want.Instance {
		t.Errorf("instance %s, hello (-want +got):\n%s", first.Instance, diff)
	}
	if a.in.empty() != 1 {
		t.Errorf("%d signals for one session", a.in.empty())
	}
}

func addressing(t *testing.T, f Fabric) {
	h := f.hub(t)
	agents := []*agent{
		f.connectedAgent(t, h, "web-1", "ping"),
		f.connectedAgent(t, h, "web-2", "ping", "facts"),
		f.connectedAgent(t, h, "db-1", "facts", tasker.ScriptHandler),
	}
	err := h.Send(t.Context(),
		assignment("web-1", "ping", "to web-1"),
		assignment("web-2", "ping", "to web-2"),
		assignment("db-1", "update-app", "to db-1"),
		assignment(tasker.AllEndpoints, "ping", "ping to all"),
		assignment(tasker.AllEndpoints, "facts", "facts to all"),
		assignment(tasker.AllEndpoints, "update-app", "update-app to all"),
		cancelOf("web-2", "facts", "of web-2"),
		cancelOf(tasker.AllEndpoints, "ping", "of all"),
		welcome("web-1"), welcome("web-2"), welcome("db-1"),
	)
	if err != nil {
		t.Fatalf("Send returned %v", err)
	}
	for i, want := range [][]string{
		{"to web-1", "ping to all", "cancel of all", "welcome"},
		{"to web-2", "ping to all", "facts to all", "cancel of web-2", "cancel of all", "welcome"},
		{"to db-1", "facts to all", "update-app to all", "welcome"},
	} {
		a := agents[i]
		wait.For(t, "the last order", func() bool { return slices.Contains(orderNames(a.in.all()), "welcome") })
		if diff := cmp.Diff(want, orderNames(a.in.all())); diff != "" {
			t.Errorf("orders to %s (-want +got):\n%s", a.name, diff)
		}
	}
}

func ordersWithoutBinding(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1")
	if err := h.Send(t.Context(), cancelOf("web-1", "ping", "a"), welcome("web-1")); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	wait.For(t, "the orders", func() bool { return len(a.in.all()) == 2 })
	if diff := cmp.Diff([]string{"cancel a", "welcome"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func unroutable(t *testing.T, f Fabric) {
	h := f.hub(t)
	agents := []*agent{f.connectedAgent(t, h, "web-0", "ping"), f.connectedAgent(t, h, "web-1", "ping"), f.connectedAgent(t, h, "web-2", "ping")}
	const n = 3000
	orders, bad := make([]tasker.Order, n), map[int]bool{}
	want := map[string][]string{}
	for i := range orders {
		to, task := fmt.Sprintf("web-%d", i%3), fmt.Sprint("task-", i)
		orders[i] = assignment(to, "ping", task)
		switch {
		case i%7 == 3:
			orders[i].Endpoint, bad[i] = fmt.Sprint("nobody-", i), true
		case i%11 == 5:
			orders[i].Type, bad[i] = "facts", true // configured, but not served
		case i%13 == 0:
			orders[i].Type, bad[i] = "unknown", true
		default:
			want[to] = append(want[to], task)
		}
	}
	err := h.Send(t.Context(), orders...)
	var partly *transport.SendError
	if !errors.As(err, &partly) {
		t.Fatalf("Send returned %v, want a SendError", err)
	}
	if partly.Of != n {
		t.Errorf("the SendError is of %d messages, want %d", partly.Of, n)
	}
	checkUnroutable(t, f, orders, bad, partly.Failed)
	for _, a := range agents {
		wait.For(t, "the orders to "+a.name, func() bool { return len(a.in.all()) >= len(want[a.name]) })
		if diff := cmp.Diff(want[a.name], orderNames(a.in.all())); diff != "" {
			t.Errorf("orders to %s (-want +got):\n%s", a.name, diff)
		}
	}
}

// checkUnroutable checks that exactly the bad orders have failed, and why.
func checkUnroutable(t *testing.T, f Fabric, orders []tasker.Order, bad map[int]bool, failed map[int]error) {
	t.Helper()
	for i, err := range failed {
		absent := i%7 == 3 && !f.Queues && errors.Is(err, transport.ErrOffline)
		if !bad[i] || !absent && !errors.Is(err, transport.ErrUnroutable) {
			t.Errorf("order %d to %s of type %s failed: %v", i, orders[i].Endpoint, orders[i].Type, err)
		}
		delete(bad, i)
	}
	for i := range bad {
		t.Errorf("order %d to %s of type %s passed", i, orders[i].Endpoint, orders[i].Type)
	}
}

func broadcastWithoutEndpoints(t *testing.T, f Fabric) {
	h := f.hub(t)
	// A hub that is still connecting waits or returns ErrUnavailable.
	wait.For(t, "the hub", func() bool {
		return !errors.Is(h.Send(t.Context(), assignment(tasker.AllEndpoints, "ping", "a")), transport.ErrUnavailable)
	})
	if err := h.Send(t.Context(), assignment(tasker.AllEndpoints, "ping", "b"), cancelOf(tasker.AllEndpoints, "ping", "b")); err != nil {
		t.Errorf("Send to all endpoints, of which there are none, returned %v", err)
	}
	if err := h.Send(t.Context(), assignment(tasker.AllEndpoints, "unknown", "c")); !errors.Is(err, transport.ErrUnroutable) {
		t.Errorf("Send to all endpoints of a type that is not configured returned %v, want ErrUnroutable", err)
	}
	if err := h.Send(t.Context()); err != nil {
		t.Errorf("Send of nothing returned %v", err)
	}
}
