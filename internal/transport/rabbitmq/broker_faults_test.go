package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestAgentBeforeInitialize(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	seen := &observer{}
	link := newLink(t, b.URI, "web-1", func(o *rabbitmq.LinkOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Order]{refuse: func(batch []tasker.Order) error {
		if len(batch) == 0 {
			return link.Send(context.Background(), hello("web-1", "ping"))
		}
		return nil
	}}
	receive(t, link, in)
	wait.For(t, "the observer to be notified", func() bool { return seen.last("tasker.reports") })
	hub := newHub(t, b.URI)
	receive(t, hub, &inbox[tasker.Report]{})
	send(t, hub, assignment("ping", "web-1", 1))
	wait.For(t, "the order", func() bool { return tasks(in.all())["task-1"] > 0 })
	wait.For(t, "the observer to be connected", func() bool { return seen.last("") })
}

func TestAgentDeclaresNothing(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	reports := &inbox[tasker.Report]{}
	receive(t, hub, reports)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0))
	name := "agent-" + b.Vhost
	uri := b.AddUser(t, name, "^$", "^tasker\\.reports$", "^endpoint\\."+name+"$")
	link, orders := serve(t, uri, name, "ping")
	send(t, hub, assignment("ping", name, 1))
	wait.For(t, "the order", func() bool { return tasks(orders.all())["task-1"] > 0 })
	send(t, link, update(name, 1))
	wait.For(t, "the report", func() bool { return updates(reports.all())["task-1"] == 1 })
}

func TestUnreachableBroker(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	proxy.Refuse()
	seen := &observer{}
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	broadcast := assignment("ping", tasker.AllEndpoints, 1)
	for range 2 { // while the hub connects, and during the back-off
		if err := hub.Send(t.Context(), broadcast); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Send returned %v, want ErrUnavailable", err)
		}
	}
	wait.For(t, "the observer to be notified", func() bool { return seen.last("refused") })
	proxy.Accept(t)
	wait.For(t, "the observer to be connected", func() bool { return seen.last("") })
	send(t, hub, broadcast)
	before := seen.errorCount() // the hub may reconnect before the test reads the last state
	proxy.Cut()
	wait.For(t, "the observer to be notified of the cut", func() bool { return seen.errorCount() > before })
	link := newLink(t, b.URI, "web-1")
	send(t, link, update("web-1", 1))
	wait.For(t, "the report on the next connection", func() bool { return updates(in.all())["task-1"] == 1 })
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	b.LimitConnections(t, 0)
	seen := &observer{}
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	if err := hub.Send(t.Context(), assignment("ping", tasker.AllEndpoints, 1)); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Send returned %v, want ErrUnavailable", err)
	}
	wait.For(t, "the observer to be notified", func() bool { return seen.last("limit") })
	b.LimitConnections(t, -1)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 1))
	wait.For(t, "the observer to be connected", func() bool { return seen.last("") })
}

func TestStalledBroker(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password))
	small, large := assignment("ping", tasker.AllEndpoints, 1), assignment("ping", tasker.AllEndpoints, 2)
	large.Assignment.Payload = fmt.Appendf(nil, "%q", strings.Repeat("x", 1<<20))
	many := make([]tasker.Order, 30) // more than the network buffers hold
	for i := range many {
		many[i] = large
	}
	send(t, hub, small)
	for name, orders := range map[string][]tasker.Order{"waiting for a confirm": {small}, "writing": many} {
		proxy.Stall()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := hub.Send(ctx, orders...)
		cancel()
		if !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Send returned %v, want ErrUnavailable and DeadlineExceeded", name, err)
		}
		proxy.Resume()
		send(t, hub, small)
	}
}

func TestBlockedConnection(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	seen := &observer{}
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	broadcast := assignment("ping", tasker.AllEndpoints, 1)
	send(t, hub, broadcast)
	wait.For(t, "the observer to be connected", func() bool { return seen.last("") })

	// A Send that waits for its confirm returns.
	proxy.Stall()
	sent := make(chan error, 1)
	go func() { sent <- hub.Send(context.Background(), broadcast) }()
	proxy.Inject(t, blockedFrame("low on memory"))
	if err := <-sent; !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("the Send in progress returned %v, want ErrUnavailable", err)
	}
	proxy.Resume()
	wait.For(t, "the observer to be notified", func() bool { return seen.last("low on memory") })
	// Further Sends fail at once, while reports are still received.
	if err := hub.Send(t.Context(), broadcast); !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "low on memory") {
		t.Errorf("Send returned %v, want ErrUnavailable and the broker's reason", err)
	}
	send(t, newLink(t, b.URI, "web-1"), update("web-1", 1))
	wait.For(t, "a report", func() bool { return updates(in.all())["task-1"] == 1 })
	proxy.Inject(t, unblockedFrame())
	send(t, hub, broadcast)
	wait.For(t, "the observer to be connected again", func() bool { return seen.last("") })
}

func TestCloseWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	if err := rabbitmq.Declare(t.Context(), b.URI, types()); err != nil {
		t.Fatal(err)
	}
	send(t, newLink(t, b.URI, "web-1"), update("web-1", 1))
	began, release := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	in := &inbox[tasker.Report]{refuse: func([]tasker.Report) error {
		close(began)
		<-release
		finished.Store(true)
		return nil
	}}
	hub := newHub(t, b.URI)
	done := receive(t, hub, in)
	<-began
	closing := make(chan struct{})
	go func() {
		defer close(closing)
		closeConn(t, hub)
		if !finished.Load() {
			t.Error("Close returned before the handler")
		}
	}()
	close(release)
	<-closing
	<-done
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != 0 {
		t.Errorf("%d reports are left: a stored report was not acknowledged", n)
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	const secret = "s3cr3t"
	for _, uri := range []string{"amqp://tasker:" + secret + "/%zz@host/", "http://tasker:" + secret + "@host/", "amqp://tasker:" + secret + "@host:port/"} {
		if _, err := rabbitmq.NewHub(rabbitmq.HubOptions{URI: uri}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("NewHub(%s) returned %v", uri, err)
		}
	}
	seen := &observer{}
	hub := newHub(t, b.URIAt(b.Address, "nobody", secret), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	err := hub.Send(t.Context(), assignment("ping", tasker.AllEndpoints, 1))
	if !errors.Is(err, rabbitmq.ErrCredentials) || strings.Contains(err.Error(), secret) {
		t.Errorf("Send with a wrong password returned %v", err)
	}
	wait.For(t, "the observer to be notified", func() bool { return seen.last("nobody") })
}

// blockedFrame is the frame with which a broker stops accepting messages, unblockedFrame the
// frame with which it accepts them again.
func blockedFrame(reason string) []byte {
	return methodFrame(append([]byte{0, 10, 0, 60, byte(len(reason))}, reason...))
}

func unblockedFrame() []byte { return methodFrame([]byte{0, 10, 0, 61}) }

// methodFrame is a method frame on channel 0.
func methodFrame(payload []byte) []byte {
	head := []byte{1, 0, 0, 0, 0, 0, byte(len(payload))}
	return append(append(head, payload...), 0xCE)
}
