package agent_test

import (
	"crypto/ed25519"
	"testing"
	"time"

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
	r := start(t, w, t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })

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
	waitFor(t, "the unsigned cancel to be refused", func() bool { return refused(t, r) == 4 })
	close(g.pass)
	if got := w.ended(t, "good"); got.Status != tasker.Succeeded {
		t.Errorf("an unsigned cancel made it %s", got.Status)
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

// A welcome of somebody else sets no clock: by the one here, what is ordered would
// be too late to be started.
func TestUnsignedWelcomeSetsNoClock(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	w := newWire()
	w.mute = true
	g := newGate("work", "")
	close(g.pass)
	r := start(t, w, t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })
	session := ""
	w.wait(t, "a hello", func() bool {
		for _, r := range w.reports {
			if r.Hello != nil {
				session = r.Hello.Session
			}
		}
		return session != ""
	})
	welcome := func(now time.Time) tasker.Order {
		return tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{
			Session: session, Now: now, Heartbeat: tasker.Duration(w.heartbeat),
		}}
	}
	a := assign(w, "early", "work")
	must(t, a.Sign(private))
	w.order(a)
	w.order(welcome(w.time().Add(time.Hour)))
	waitFor(t, "the welcome to be refused", func() bool { return refused(t, r) == 1 })
	if len(g.started) > 0 || len(w.updates("early")) > 0 {
		t.Error("something happened before the control plane has said what time it is")
	}
	genuine := welcome(w.time())
	must(t, genuine.Sign(private))
	w.order(genuine)
	if got := w.ended(t, "early"); got.Status != tasker.Succeeded || got.StartedAt.After(w.time()) {
		t.Errorf("after the welcome of the control plane: %+v", got)
	}
}

// refused is how many orders were refused for their signature.
func refused(t *testing.T, r *rig) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	must(t, err)
	n := 0.0
	for _, f := range families {
		if f.GetName() == "tasker_agent_orders_refused_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
