package rabbitmq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestRestartedHubFindsWaitingReports(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	first := newHub(t, b.URI)
	send(t, first, assignment("ping", tasker.AllEndpoints, 0))
	closeConn(t, first)

	link := newLink(t, b.URI, "web-1")
	send(t, link, hello("web-1", "ping"), update("web-1", 1), update("web-1", 2))
	second, in := newHub(t, b.URI), &inbox[tasker.Report]{}
	receive(t, second, in)
	wait.For(t, "the reports", func() bool { return len(in.all()) == 3 })
	if err := second.Send(t.Context(), assignment("ping", "web-1", 1)); err != nil {
		t.Errorf("no queue was declared for the waiting hello: %v", err)
	}
}

func TestOrdersExpire(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"))
	wait.For(t, "the hello", func() bool { return len(in.all()) > 0 })
	past, kept := assignment("ping", "web-1", 1), assignment("ping", "web-1", 2)
	past.Expires = time.Now().Add(-time.Minute)
	kept.Expires = time.Time{}
	if err := hub.Send(t.Context(), past, kept); err != nil {
		t.Fatal(err)
	}
	wait.For(t, "one of them to expire", func() bool { return b.Messages(t, rabbitmq.Queue("web-1")) == 1 })
	_, orders := serve(t, b.URI, "web-1", "ping")
	wait.For(t, "the other one", func() bool { return tasks(orders.all())["task-2"] == 1 })
	if n := tasks(orders.all())["task-1"]; n != 0 {
		t.Errorf("the expired order was delivered %d times", n)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub, link := newHub(t, b.URI), newLink(t, b.URI, "web-1")
	closeConn(t, hub)
	closeConn(t, link)
	if err := hub.Send(t.Context(), assignment("ping", "web-1", 1)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send of a closed hub returned %v", err)
	}
	if err := link.Send(t.Context(), hello("web-1")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send of a closed link returned %v", err)
	}
	if err := hub.Receive(t.Context(), func(context.Context, []tasker.Report) error { return nil }); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Receive of a closed hub returned %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newLink(t, b.URI, "web-2").Receive(ctx, func(context.Context, []tasker.Order) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive with a context that is done returned %v", err)
	}
}

func TestHelloRequiresQueue(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	b.Do(t, func(ch *amqp.Channel) error {
		other := amqp.Table{amqp.QueueMaxLenArg: 10} // tasker's queues have no such limit
		_, err := ch.QueueDeclare(rabbitmq.Queue("web-1"), true, false, false, false, other)
		return err
	})
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"), update("web-1", 1))
	send(t, newLink(t, b.URI, "web-2"), hello("web-2", "ping"))
	wait.For(t, "the update and the other hello", func() bool { return len(in.all()) >= 2 })
	for _, r := range in.all() {
		if r.Endpoint == "web-1" && r.Hello != nil {
			t.Error("the hello was delivered although its queue cannot be declared")
		}
	}
	if err := hub.Send(t.Context(), assignment("ping", "web-2", 1)); err != nil {
		t.Errorf("Send to the other endpoint returned %v", err)
	}
	b.DeleteQueue(t, rabbitmq.Queue("web-1"))
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"))
	wait.For(t, "the next hello to be accepted", func() bool { return hub.Send(t.Context(), assignment("ping", "web-1", 1)) == nil })
}
