package agent_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// An agent with the control plane's key ignores assignments, cancels and welcomes that are
// not signed with it.
func TestOnlySignedOrdersAreAccepted(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	_, stranger, err := ed25519.GenerateKey(nil)
	must(t, err)
	sign := func(o tasker.Order, key ed25519.PrivateKey) tasker.Order {
		must(t, o.Sign(key))
		return o
	}
	cp := newControlPlane()
	cp.key = private
	blocking := newBlocking("deploy", "")
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })

	elsewhere := assign(cp, "elsewhere", "deploy")
	elsewhere.Endpoint = "loadbalancer-2"
	elsewhere = sign(elsewhere, private)
	elsewhere.Endpoint = endpoint
	good := sign(assign(cp, "good", "deploy"), private)
	cp.deliver(assign(cp, "unsigned", "deploy"), sign(assign(cp, "forged", "deploy"), stranger), elsewhere, good)
	if id := blocking.nextStarted(t); id != "good" {
		t.Errorf("%s was started", id)
	}
	cp.deliver(cancel(cp, "good"))
	waitFor(t, "the unsigned cancel to be refused", func() bool { return refused(t, r) == 4 })
	close(blocking.release)
	if got := cp.waitEnded(t, "good"); got.Status != tasker.Succeeded {
		t.Errorf("an unsigned cancel made it %s", got.Status)
	}
	cp.deliver(sign(assign(cp, "last", "deploy"), private))
	blocking.nextStarted(t)
	cp.waitEnded(t, "last")
	for _, id := range []string{"unsigned", "forged", "elsewhere"} {
		if us := cp.updates(id); len(us) > 0 {
			t.Errorf("%s was reported: %+v", id, us)
		}
	}
}

// With the time of the unsigned welcome, the assignment would be too late to start.
func TestUnsignedWelcomeDoesNotSetClock(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	cp := newControlPlane()
	cp.ignoreHellos = true
	blocking := newBlocking("deploy", "")
	close(blocking.release)
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, func(o *agent.Options) { o.Keys = []ed25519.PublicKey{public} })
	session := ""
	cp.wait(t, "a hello", func() bool {
		for _, r := range cp.reports {
			if r.Hello != nil {
				session = r.Hello.Session
			}
		}
		return session != ""
	})
	welcome := func(now time.Time) tasker.Order {
		return tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{
			Session: session, Now: now, Heartbeat: tasker.Duration(cp.heartbeat),
		}}
	}
	a := assign(cp, "early", "deploy")
	must(t, a.Sign(private))
	cp.deliver(a)
	cp.deliver(welcome(cp.time().Add(time.Hour)))
	waitFor(t, "the welcome to be refused", func() bool { return refused(t, r) == 1 })
	if len(blocking.started) > 0 || len(cp.updates("early")) > 0 {
		t.Error("something happened before the control plane sent its time")
	}
	signed := welcome(cp.time())
	must(t, signed.Sign(private))
	cp.deliver(signed)
	if got := cp.waitEnded(t, "early"); got.Status != tasker.Succeeded || got.StartedAt.After(cp.time()) {
		t.Errorf("after the welcome of the control plane: %+v", got)
	}
}

// refused returns how many orders were refused for their signature.
func refused(t *testing.T, r *runningAgent) float64 {
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
