package transporttest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func absentEndpoint(t *testing.T, f Fabric) {
	h := f.hub(t)
	f.connectedAgent(t, h, "web-1", "ping").close(t)
	if f.Queues {
		h.send(t, assignments("web-1", "kept", 10)...)
		back := f.agent(t, "web-1", "ping")
		wait.For(t, "the orders that were kept", func() bool { return len(back.in.all()) >= 10 })
		if diff := cmp.Diff(names("kept", 10), orderNames(back.in.all())); diff != "" {
			t.Errorf("orders (-want +got):\n%s", diff)
		}
		return
	}
	wait.For(t, "the endpoint to be offline", func() bool {
		return errors.Is(h.Send(t.Context(), assignment("web-1", "ping", "lost")), transport.ErrOffline)
	})
	back := f.connectedAgent(t, h, "web-1", "ping")
	if err := h.Send(t.Context(), assignment("web-1", "ping", "again")); err != nil {
		t.Fatalf("Send to an endpoint that is connected again returned %v", err)
	}
	wait.For(t, "the order", func() bool { return slices.Contains(orderNames(back.in.all()), "again") })
}

func expiry(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	past, never := assignment("web-1", "ping", "past"), assignment("web-1", "ping", "never")
	past.Expires, never.Expires = time.Now().Add(-time.Minute), time.Time{}
	orders := []tasker.Order{past, never}
	if f.Queues {
		// While an agent consumes it, a queue may deliver an order that has just expired.
		a.close(t)
		soon := assignment("web-1", "ping", "soon")
		soon.Expires = time.Now().Add(200 * time.Millisecond)
		orders = append(orders, soon)
	}
	if err := h.Send(t.Context(), append(orders, assignment("web-1", "ping", "future"))...); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	if f.Queues {
		// The queue measures the expiry from the arrival of the order.
		sent := time.Now()
		wait.For(t, "the order to expire in the queue", func() bool { return time.Since(sent) > 400*time.Millisecond })
		a = f.agent(t, "web-1", "ping")
	}
	wait.For(t, "the orders", func() bool { return slices.Contains(orderNames(a.in.all()), "future") })
	if diff := cmp.Diff([]string{"never", "future"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func typesChange(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	got := []string{}
	for i, handlers := range [][]string{{"ping", "facts"}, {"facts"}, {tasker.ScriptHandler}, {}, {"ping"}} {
		a.send(t, heartbeat("web-1", handlers...))
		wait.For(t, "the heartbeat", func() bool { return heartbeats(h) == i+1 })
		for _, typ := range taskTypes() {
			served := typ.ServedBy(presence(handlers))
			one, all := fmt.Sprintf("%d %s", i, typ.Name), fmt.Sprintf("%d %s for all", i, typ.Name)
			err := h.Send(t.Context(), assignment("web-1", typ.Name, one), assignment(tasker.AllEndpoints, typ.Name, all))
			var partly *transport.SendError
			switch {
			case served:
				got = append(got, one, all)
				if err != nil {
					t.Errorf("with %q, Send of a %s returned %v", handlers, typ.Name, err)
				}
			case !errors.As(err, &partly) || len(partly.Failed) != 1 || !errors.Is(partly.Failed[0], transport.ErrUnroutable):
				t.Errorf("with %q, Send of a %s returned %v, want ErrUnroutable for the first order only", handlers, typ.Name, err)
			}
		}
	}
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= len(got) })
	if diff := cmp.Diff(got, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func scriptsChange(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", tasker.ScriptHandler)
	for i, scripts := range [][]string{{"another"}, {"another", "update-app"}, nil, {"update-app"}} {
		// The handlers stay the same.
		r := heartbeat("web-1", tasker.ScriptHandler)
		r.Heartbeat.Scripts = scripts
		a.send(t, r)
		wait.For(t, "the heartbeat", func() bool { return heartbeats(h) == i+1 })
		err := h.Send(t.Context(), assignment("web-1", "update-app", fmt.Sprint(i)))
		if served := slices.Contains(scripts, "update-app"); served && err != nil || !served && !errors.Is(err, transport.ErrUnroutable) {
			t.Errorf("with the scripts %q, Send returned %v", scripts, err)
		}
	}
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= 2 })
	if diff := cmp.Diff([]string{"1", "3"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

// heartbeats counts the heartbeats that the hub has received.
func heartbeats(h *hub) int {
	n := 0
	for _, r := range h.in.all() {
		if r.Heartbeat != nil {
			n++
		}
	}
	return n
}
