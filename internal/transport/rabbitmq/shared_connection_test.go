package rabbitmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestLinksOnASharedConnection(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	reports := &inbox[tasker.Report]{}
	receive(t, hub, reports)
	shared, err := rabbitmq.NewSharedConnection(b.URI, "connection of a test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shared.Close)

	const links = 3
	var orders [links]*inbox[tasker.Order]
	var all [links]*rabbitmq.Link
	for i := range links {
		name := fmt.Sprintf("web-%d", i)
		link := newLink(t, b.URI, name, func(o *rabbitmq.LinkOptions) { o.Shared = shared })
		all[i], orders[i] = link, &inbox[tasker.Order]{}
		orders[i].refuse = func(batch []tasker.Order) error {
			if len(batch) > 0 {
				return nil
			}
			return link.Send(context.Background(), hello(name, "ping"))
		}
		receive(t, link, orders[i])
	}
	both := func(n int, of ...int) {
		t.Helper()
		for _, i := range of {
			name := fmt.Sprintf("web-%d", i)
			send(t, hub, assignment("ping", name, n*links+i))
			send(t, all[i], update(name, n*links+i))
			id := fmt.Sprintf("task-%d", n*links+i)
			wait.For(t, "the order to "+name, func() bool { return tasks(orders[i].all())[id] > 0 })
			wait.For(t, "the report of "+name, func() bool { return updates(reports.all())[id] > 0 })
		}
	}
	both(0, 0, 1, 2)
	before := orders[0].sessions()
	b.Kill(t, "connection of a test")
	wait.For(t, "a new session on the new connection", func() bool { return orders[0].sessions() > before })
	both(1, 0, 1, 2)

	closeConn(t, all[1])
	both(2, 0, 2)
}
