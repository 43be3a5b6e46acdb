package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// standing keeps what an observer was told.
type standing struct {
	mu   sync.Mutex
	told []error
}

func (s *standing) observe(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, err)
}

// last says whether the last word was good (want empty) or contained want.
func (s *standing) last(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) == 0 {
		return false
	}
	err := s.told[len(s.told)-1]
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}

// troubles is how often it was told that something is not well.
func (s *standing) troubles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, err := range s.told {
		if err != nil {
			n++
		}
	}
	return n
}

func TestKilledWhileSendingOrders(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	receive(t, hub, &inbox[tasker.Report]{})
	_, in := serve(t, b.URI, "web-1", "ping")
	send(t, hub, assignment("ping", "web-1", 0))

	// It is sent by one goroutine and killed by another, until a kill has met a
	// Send. What has not passed is sent again.
	b.AwaitConnection(t, "tasker-controlplane publish") // lest very many are sent meanwhile
	n := 0
	var work sync.WaitGroup
	work.Go(func() {
		for met := false; !met && n < 1_000_000; {
			orders := make([]tasker.Order, 500)
			for i := range orders {
				orders[i] = assignment("ping", "web-1", n)
				n++
			}
			if err := hub.Send(t.Context(), orders...); err != nil {
				met = true
				send(t, hub, unsent(orders, err)...)
			}
		}
	})
	b.Kill(t, "tasker-controlplane publish")
	work.Wait()
	wait.For(t, "every order", func() bool { return len(tasks(in.all())) == n })
}

func TestPartOfASendIsNamedWhenTheConnectionIsCut(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	setUp := newHub(t, b.URI)
	receive(t, setUp, &inbox[tasker.Report]{})
	_, in := serve(t, b.URI, "web-1", "ping")
	send(t, setUp, assignment("ping", "web-1", 0))

	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password))
	send(t, hub, assignment("ping", "web-1", 0))
	orders := make([]tasker.Order, 10_000)
	for i := range orders {
		orders[i] = assignment("ping", "web-1", i)
	}
	proxy.CutAfter(1 << 20) // of several MiB
	var partly *transport.SendError
	err := hub.Send(t.Context(), orders...)
	if !errors.As(err, &partly) || !errors.Is(err, transport.ErrUnavailable) {
		t.Fatalf("Send returned %v, want a SendError with ErrUnavailable", err)
	}
	if n := len(partly.Failed); n == 0 || n == len(orders) {
		t.Fatalf("%d of %d failed, want some", n, len(orders))
	}
	wait.For(t, "every order that passed", func() bool {
		got := tasks(in.all())
		for i, o := range orders {
			if partly.Failed[i] == nil && got[o.Assignment.TaskID] == 0 {
				return false
			}
		}
		return true
	})
}

func TestKilledWhileReceivingReports(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	if err := rabbitmq.Declare(t.Context(), b.URI, types()); err != nil {
		t.Fatal(err)
	}
	link := newLink(t, b.URI, "web-1")
	const n = 3000
	reports := make([]tasker.Report, n)
	for i := range reports {
		reports[i] = update("web-1", i)
	}
	send(t, link, reports...)

	began, killed := make(chan struct{}), make(chan struct{})
	var first sync.Once
	in := &inbox[tasker.Report]{refuse: func([]tasker.Report) error {
		// The first batch is in hand while the connection is killed.
		first.Do(func() {
			close(began)
			<-killed
		})
		return nil
	}}
	hub := newHub(t, b.URI)
	done := receive(t, hub, in)
	<-began
	b.Kill(t, "tasker-controlplane consume")
	close(killed)
	wait.For(t, "every report", func() bool { return len(updates(in.all())) == n })
	wait.For(t, "the queue to be acknowledged", func() bool { return b.Messages(t, rabbitmq.ReportsQueue) == 0 })
	closed(t, hub)
	<-done
	if got := b.Messages(t, rabbitmq.ReportsQueue); got != 0 {
		t.Errorf("%d reports came back to the queue", got)
	}
}

func TestKilledAgent(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	reports := &inbox[tasker.Report]{}
	receive(t, hub, reports)
	link, orders := serve(t, b.URI, "web-1", "ping")
	const n = 2000
	var work sync.WaitGroup
	for i := range 2 {
		b.Kill(t, "tasker-agent web-1")
		work.Go(func() {
			for j := i; j < n; j += 200 {
				batch := make([]tasker.Report, 0, 100)
				for k := j; k < j+200; k += 2 {
					batch = append(batch, update("web-1", k))
				}
				send(t, link, batch...)
			}
		})
		for j := i; j < n; j += 2 {
			send(t, hub, assignment("ping", "web-1", j))
		}
	}
	work.Wait()
	wait.For(t, "every report", func() bool { return len(updates(reports.all())) == n })
	wait.For(t, "every order", func() bool { return len(tasks(orders.all())) == n })
	if got := orders.greetings(); got < 2 {
		t.Errorf("the agent was called upon %d times to say hello, want once a session", got)
	}
}

func TestDeletedQueueIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	receive(t, hub, &inbox[tasker.Report]{})
	_, in := serve(t, b.URI, "web-1", "ping")
	send(t, hub, assignment("ping", "web-1", 1))
	wait.For(t, "the first order", func() bool { return tasks(in.all())["task-1"] > 0 })
	b.DeleteQueue(t, rabbitmq.Queue("web-1"))
	send(t, hub, assignment("ping", "web-1", 2))
	wait.For(t, "the order after that", func() bool { return tasks(in.all())["task-2"] > 0 })
}

func TestDeletedReportsAreMadeAgain(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	link := newLink(t, b.URI, "web-1")
	send(t, link, update("web-1", 1))
	wait.For(t, "the first report", func() bool { return updates(in.all())["task-1"] > 0 })
	b.DeleteQueue(t, rabbitmq.ReportsQueue)
	send(t, link, update("web-1", 2))
	wait.For(t, "the report after that", func() bool { return updates(in.all())["task-2"] > 0 })
}

func TestAgentBeforeTheSetUp(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	seen := &standing{}
	link := newLink(t, b.URI, "web-1", func(o *rabbitmq.LinkOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Order]{refuse: func(batch []tasker.Order) error {
		if len(batch) == 0 {
			return link.Send(context.Background(), hello("web-1", "ping"))
		}
		return nil
	}}
	receive(t, link, in)
	wait.For(t, "the observer to be told", func() bool { return seen.last("tasker.reports") })
	hub := newHub(t, b.URI)
	receive(t, hub, &inbox[tasker.Report]{})
	send(t, hub, assignment("ping", "web-1", 1))
	wait.For(t, "the order", func() bool { return tasks(in.all())["task-1"] > 0 })
	wait.For(t, "the observer to be content", func() bool { return seen.last("") })
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
	seen := &standing{}
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	broadcast := assignment("ping", tasker.AllEndpoints, 1)
	for range 2 { // while it connects, and at once in the back-off
		if err := hub.Send(t.Context(), broadcast); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Send returned %v, want ErrUnavailable", err)
		}
	}
	wait.For(t, "the observer to be told", func() bool { return seen.last("refused") })
	proxy.Accept(t)
	wait.For(t, "the observer to be content", func() bool { return seen.last("") })
	send(t, hub, broadcast)
	before := seen.troubles() // the hub may be well again before anybody looks
	proxy.Cut()
	wait.For(t, "the observer to be told of the cut", func() bool { return seen.troubles() > before })
	link := newLink(t, b.URI, "web-1")
	send(t, link, update("web-1", 1))
	wait.For(t, "the report on a connection of later", func() bool { return updates(in.all())["task-1"] == 1 })
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	b.LimitConnections(t, 0)
	seen := &standing{}
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	if err := hub.Send(t.Context(), assignment("ping", tasker.AllEndpoints, 1)); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Send returned %v, want ErrUnavailable", err)
	}
	wait.For(t, "the observer to be told", func() bool { return seen.last("limit") })
	b.LimitConnections(t, -1)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 1))
	wait.For(t, "the observer to be content", func() bool { return seen.last("") })
}

func TestStalledBroker(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password))
	small, large := assignment("ping", tasker.AllEndpoints, 1), assignment("ping", tasker.AllEndpoints, 2)
	large.Assignment.Payload = fmt.Appendf(nil, "%q", strings.Repeat("x", 1<<20))
	many := make([]tasker.Order, 30) // more than the buffers between here and there hold
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

func TestBlockedByTheBroker(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	proxy := transporttest.NewProxy(t, b.Address)
	seen := &standing{}
	hub := newHub(t, b.URIAt(proxy.Address, b.Username, b.Password), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	broadcast := assignment("ping", tasker.AllEndpoints, 1)
	send(t, hub, broadcast)
	wait.For(t, "the observer to be content", func() bool { return seen.last("") })

	// A Send that waits for its confirm gives up.
	proxy.Stall()
	sent := make(chan error, 1)
	go func() { sent <- hub.Send(context.Background(), broadcast) }()
	proxy.Inject(t, blockedFrame("low on memory"))
	if err := <-sent; !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("the Send under way returned %v, want ErrUnavailable", err)
	}
	proxy.Resume()
	wait.For(t, "the observer to be told", func() bool { return seen.last("low on memory") })
	// Further ones do not begin, while reports are still received.
	if err := hub.Send(t.Context(), broadcast); !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "low on memory") {
		t.Errorf("Send returned %v, want ErrUnavailable and the broker's reason", err)
	}
	send(t, newLink(t, b.URI, "web-1"), update("web-1", 1))
	wait.For(t, "a report", func() bool { return updates(in.all())["task-1"] == 1 })
	proxy.Inject(t, unblockedFrame())
	send(t, hub, broadcast)
	wait.For(t, "the observer to be content again", func() bool { return seen.last("") })
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
		closed(t, hub)
		if !finished.Load() {
			t.Error("Close returned before the handler")
		}
	}()
	close(release)
	<-closing
	<-done
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != 0 {
		t.Errorf("%d reports are left: what was stored was not acknowledged", n)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	const secret = "s3cr3t"
	for _, uri := range []string{"amqp://tasker:" + secret + "/%zz@host/", "http://tasker:" + secret + "@host/", "amqp://tasker:" + secret + "@host:port/"} {
		if _, err := rabbitmq.NewHub(rabbitmq.HubOptions{URI: uri}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("NewHub(%s) returned %v", uri, err)
		}
	}
	seen := &standing{}
	hub := newHub(t, b.URIAt(b.Address, "nobody", secret), func(o *rabbitmq.HubOptions) { o.Observer = seen.observe })
	err := hub.Send(t.Context(), assignment("ping", tasker.AllEndpoints, 1))
	if !errors.Is(err, rabbitmq.ErrCredentials) || strings.Contains(err.Error(), secret) {
		t.Errorf("Send with a wrong password returned %v", err)
	}
	wait.For(t, "the observer to be told", func() bool { return seen.last("nobody") })
}

// blockedFrame is the frame by which a broker short of something says that it
// takes no messages, unblockedFrame the one by which it takes them again.
func blockedFrame(reason string) []byte {
	return methodFrame(append([]byte{0, 10, 0, 60, byte(len(reason))}, reason...))
}

func unblockedFrame() []byte { return methodFrame([]byte{0, 10, 0, 61}) }

// methodFrame is a method frame on channel 0.
func methodFrame(payload []byte) []byte {
	head := []byte{1, 0, 0, 0, 0, 0, byte(len(payload))}
	return append(append(head, payload...), 0xCE)
}
