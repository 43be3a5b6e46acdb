package rabbitmq_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// observer stores the states that it receives.
type observer struct {
	mu     sync.Mutex
	states []error
}

func (s *observer) observe(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = append(s.states, err)
}

// last reports whether the last state is connected (want empty) or an error that contains
// want.
func (s *observer) last(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.states) == 0 {
		return false
	}
	err := s.states[len(s.states)-1]
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}

// errorCount returns the number of errors.
func (s *observer) errorCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, err := range s.states {
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

	// One goroutine sends while the test kills the connection, until a Send fails. Failed
	// orders are sent again.
	b.AwaitConnection(t, "tasker-controlplane publish") // otherwise very many orders are sent until then
	n := 0
	var work sync.WaitGroup
	work.Go(func() {
		for failed := false; !failed && n < 1_000_000; {
			orders := make([]tasker.Order, 500)
			for i := range orders {
				orders[i] = assignment("ping", "web-1", n)
				n++
			}
			if err := hub.Send(t.Context(), orders...); err != nil {
				failed = true
				send(t, hub, unsent(orders, err)...)
			}
		}
	})
	b.Kill(t, "tasker-controlplane publish")
	work.Wait()
	wait.For(t, "every order", func() bool { return len(tasks(in.all())) == n })
}

func TestSendErrorAfterLostConnection(t *testing.T) {
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
	proxy.CutAfter(1 << 20) // of several MiB in total
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
		// The connection is killed while the first batch is being handled.
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
	closeConn(t, hub)
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
	if got := orders.sessions(); got < 2 {
		t.Errorf("%d sessions, want at least 2", got)
	}
}

func TestDeletedQueueIsDeclaredAgain(t *testing.T) {
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

func TestDeletedReportsQueueIsDeclaredAgain(t *testing.T) {
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
