package agent_test

import (
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// An agent that knows the control plane's key performs what is signed with it, and
// nothing else: no order, no cancel and no time of anybody else.
func TestOnlySignedOrdersAreTaken(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	_, stranger, err := ed25519.GenerateKey(nil)
	must(t, err)
	sign := func(o tasker.Order, key ed25519.PrivateKey) tasker.Order {
		must(t, o.Sign(key))
		return o
	}
	w := newWire()
	w.key = private
	g := newGate("work", "")
	start(t, w, t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })

	elsewhere := assign(w, "elsewhere", "work")
	elsewhere.Endpoint = "loadbalancer-2"
	elsewhere = sign(elsewhere, private)
	elsewhere.Endpoint = endpoint
	good := sign(assign(w, "good", "work"), private)
	w.order(assign(w, "unsigned", "work"), sign(assign(w, "forged", "work"), stranger), elsewhere, good)
	if id := g.next(t); id != "good" {
		t.Errorf("%s was started", id)
	}
	w.order(cancel(w, "good"))
	close(g.pass)
	if r := w.ended(t, "good"); r.Status != tasker.Succeeded {
		t.Errorf("an unsigned cancel made it %s", r.Status)
	}
	w.order(sign(assign(w, "last", "work"), private))
	g.next(t)
	w.ended(t, "last")
	for _, id := range []string{"unsigned", "forged", "elsewhere"} {
		if us := w.updates(id); len(us) > 0 {
			t.Errorf("something is said of %s: %+v", id, us)
		}
	}
}

// A welcome of somebody else sets no clock, so nothing is started.
func TestUnsignedWelcomeSetsNoClock(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	w := newWire()
	w.mute = true
	started := make(chan string, 10)
	h := work("work", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		started <- c.TaskID
		return handlers.Result{}, nil
	})
	r := start(t, w, t.TempDir(), []handlers.Handler{h}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })
	session := ""
	w.wait(t, "a hello", func() bool {
		for _, r := range w.reports {
			if r.Hello != nil {
				session = r.Hello.Session
			}
		}
		return session != ""
	})
	a := assign(w, "early", "work")
	must(t, a.Sign(private))
	w.order(a)
	w.order(tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: session, Now: w.time(), Heartbeat: tasker.Duration(w.heartbeat)}})
	w.wait(t, "both to be taken", func() bool { return len(w.batches) == 0 })
	must(t, r.stop())
	select {
	case id := <-started:
		t.Errorf("%s was started before the control plane has said what time it is", id)
	default:
	}
}
