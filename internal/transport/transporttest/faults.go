package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// proxies returns the proxies of the fabric.
func (f Fabric) proxies() []*Proxy {
	if f.HubProxy == nil {
		return []*Proxy{f.AgentProxy}
	}
	return []*Proxy{f.AgentProxy, f.HubProxy}
}

// cutRepeatedly cuts the connections, each time after another message has arrived, until
// stop is closed.
func (f Fabric) cutRepeatedly(passed func() int, stop <-chan struct{}) {
	const cuts = 6
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	seen := passed()
	for n := 0; n < cuts; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if now := passed(); now > seen {
			seen = now
			f.proxies()[n%len(f.proxies())].Cut()
			n++
		}
	}
}

func reportsDuringCuts(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	const rounds, each = 40, 100
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() { f.cutRepeatedly(func() int { return len(updatedTasks(h.in.all())) }, stop) })
	for r := range rounds {
		a.send(t, updates("web-1", fmt.Sprint("report-", r), each)...)
	}
	close(stop)
	cutting.Wait()
	for r := range rounds {
		wait.For(t, "the reports that were accepted", func() bool {
			return missing(names(fmt.Sprint("report-", r), each), updatedTasks(h.in.all())) == nil
		})
	}
}

// ordersDuringCuts sends orders like a dispatcher: it repeats orders that were not accepted
// and, if the transport does not queue, orders that the agent has not received.
func ordersDuringCuts(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	const rounds, each = 40, 100
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() { f.cutRepeatedly(func() int { return len(a.in.all()) }, stop) })
	for r := range rounds {
		h.send(t, assignments("web-1", fmt.Sprint("order-", r), each)...)
	}
	close(stop)
	cutting.Wait()
	for r := range rounds {
		prefix := fmt.Sprint("order-", r)
		var again time.Time
		wait.For(t, "the orders that were accepted", func() bool {
			left := missing(names(prefix, each), orderNames(a.in.all()))
			if !f.Queues && time.Since(again) > time.Second {
				for _, task := range left {
					h.send(t, assignment("web-1", "ping", task))
				}
				again = time.Now()
			}
			return left == nil
		})
	}
}

func reconnects(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	h.send(t, assignment("web-1", "ping", "before"))
	for i := range 3 {
		wait.For(t, "the observer to be notified of the session", a.observed.isConnected)
		before, seenHellos := a.in.empty(), hellos(h, "web-1")
		for _, w := range f.proxies() {
			w.Refuse()
		}
		wait.For(t, "the observer to be notified of the loss", func() bool { return a.observed.isDisconnected("") })
		if err := a.Send(t.Context(), update("web-1", "nowhere")); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Send without a connection returned %v, want ErrUnavailable", err)
		}
		for _, w := range f.proxies() {
			w.Accept(t)
		}
		wait.For(t, "the signal of the next session", func() bool { return a.in.empty() > before })
		wait.For(t, "the hello of the next session", func() bool { return hellos(h, "web-1") > seenHellos })
		h.send(t, assignment("web-1", "ping", fmt.Sprint("after-", i)))
		wait.For(t, "the order", func() bool { return missing([]string{fmt.Sprint("after-", i)}, orderNames(a.in.all())) == nil })
	}
}

func stalledNetwork(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	for i := range 2 {
		for _, w := range f.proxies() {
			w.Stall()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := a.Send(ctx, update("web-1", fmt.Sprint("stalled-", i))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send of a report into a stalled network returned %v, want DeadlineExceeded", err)
		}
		cancel()
		for _, w := range f.proxies() {
			w.Resume()
		}
		a.send(t, update("web-1", fmt.Sprint("report-", i)))
		wait.For(t, "the report", func() bool { return missing([]string{fmt.Sprint("report-", i)}, updatedTasks(h.in.all())) == nil })
		h.send(t, assignment("web-1", "ping", fmt.Sprint("order-", i)))
		wait.For(t, "the order", func() bool { return missing([]string{fmt.Sprint("order-", i)}, orderNames(a.in.all())) == nil })
	}
}

// The link notices that its connections were dropped, ends what waits on them and uses new
// ones.
func droppedConnections(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	a.send(t, update("web-1", "before")) // its connection stays open for the next report
	before := hellos(h, "web-1")
	f.AgentProxy.Drop()
	err := a.Send(t.Context(), update("web-1", "dropped"))
	if !errors.Is(err, transport.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send over a dropped connection returned %v, want ErrUnavailable, not a timeout of its own", err)
	}
	wait.For(t, "another hello", func() bool { return hellos(h, "web-1") > before })
	a.send(t, update("web-1", "after"))
	h.send(t, assignment("web-1", "ping", "order"))
	wait.For(t, "the order", func() bool { return slices.Contains(orderNames(a.in.all()), "order") })
}

func uniqueName(t *testing.T, f Fabric) {
	h := f.hub(t)
	first := f.connectedAgent(t, h, "web-1", "ping")
	// The first agent holds the name after it has received an order.
	h.send(t, assignment("web-1", "ping", "own"))
	wait.For(t, "the first to get its order", func() bool { return len(first.in.all()) == 1 })
	var seen observations
	second := startReceive(t, f.NewLink(t, "web-1", "another journal", seen.observe), nil)
	wait.For(t, "the second to be refused", func() bool { return seen.isDisconnected("in use by another agent") })
	h.send(t, assignment("web-1", "ping", "to the first"))
	wait.For(t, "the first to get its next order", func() bool { return len(first.in.all()) == 2 })
	if n := second.in.empty() + len(second.in.all()); n != 0 {
		t.Errorf("the second received %d batches or orders while the first is connected", n)
	}
	first.close(t)
	wait.For(t, "the second to take over", func() bool { return seen.isConnected() && second.in.empty() > 0 })
	secondHello := hello("web-1", "ping")
	secondHello.Instance = "another journal"
	second.send(t, secondHello)
	h.send(t, assignment("web-1", "ping", "to the second"))
	wait.For(t, "the second to get its order", func() bool { return missing([]string{"to the second"}, orderNames(second.in.all())) == nil })
}

// A second process with the same instance, such as a cloned server, does not get the name of
// a live agent. It gets it when the agent is gone.
func clonedAgent(t *testing.T, f Fabric) {
	h := f.hub(t)
	first := f.connectedAgent(t, h, "web-1", "ping")
	h.send(t, assignment("web-1", "ping", "own"))
	wait.For(t, "the first to get its order", func() bool { return len(first.in.all()) == 1 })
	second := f.agent(t, "web-1", "ping")
	for range 3 {
		refused := second.observed.count()
		wait.For(t, "the second to be refused again", func() bool {
			return second.observed.count() > refused && second.observed.isDisconnected("in use by another")
		})
	}
	h.send(t, assignment("web-1", "ping", "to the first"))
	wait.For(t, "the first to get its next order", func() bool { return len(first.in.all()) == 2 })
	if n := second.in.empty() + len(second.in.all()); n != 0 {
		t.Errorf("the second received %d batches or orders while the first is connected", n)
	}
	if n := first.in.empty(); n != 1 {
		t.Errorf("the first has had %d sessions, want 1", n)
	}
	first.close(t)
	wait.For(t, "the second to take over", func() bool { return second.in.empty() > 0 })
}
