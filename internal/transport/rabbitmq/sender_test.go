package rabbitmq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestUnauthorizedHello(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	reg := prometheus.NewRegistry()
	var allowed atomic.Bool
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
		o.Metrics = rabbitmq.NewMetrics(reg)
		o.Authorize = func(_ context.Context, user, endpoint string) error {
			if user != b.Username {
				t.Errorf("Authorize was called with user %q for %s, want %q", user, endpoint, b.Username)
			}
			if endpoint == "web-1" && !allowed.Load() {
				return errors.New("web-1 was revoked")
			}
			return nil
		}
	})
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"), beat("web-1", "ping"), update("web-1", 1))
	send(t, newLink(t, b.URI, "web-2"), hello("web-2", "ping"), update("web-2", 2))
	wait.For(t, "the updates and the other hello", func() bool { return len(in.all()) >= 3 })
	for _, r := range in.all() {
		if r.Endpoint == "web-1" && r.Update == nil {
			t.Errorf("%+v was delivered", r)
		}
	}
	if n := b.Messages(t, rabbitmq.Queue("web-1")); n != -1 {
		t.Error("the endpoint that is not authorized has a queue")
	}
	if err := hub.Send(t.Context(), assignment("ping", "web-1", 1)); !errors.Is(err, transport.ErrUnroutable) {
		t.Errorf("Send returned %v, want ErrUnroutable", err)
	}
	if err := hub.Send(t.Context(), assignment("ping", "web-2", 1)); err != nil {
		t.Errorf("Send to the other endpoint returned %v", err)
	}
	const refused = "tasker_controlplane_rabbitmq_refused_reports_total"
	if n, err := testutil.GatherAndCount(reg, refused); err != nil || n == 0 {
		t.Errorf("metric %s: %d, %v", refused, n, err)
	}
	allowed.Store(true)
	send(t, newLink(t, b.URI, "web-1"), beat("web-1", "ping"))
	wait.For(t, "the endpoint to be authorized again", func() bool { return hub.Send(t.Context(), assignment("ping", "web-1", 1)) == nil })
}

// The control plane's user, which agents may share, reports only for endpoints that are not
// enrolled. The refused reports are kept, and the others are delivered in their order.
func TestSharedUserIsRefusedForEveryReportOfAnEnrolledEndpoint(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	var calls atomic.Int32
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
		o.AuthorizeShared = func(_ context.Context, endpoints []string) (map[string]error, error) {
			if calls.Add(1) == 1 {
				return nil, fmt.Errorf("%w: the database is restarting", transport.ErrUnavailable)
			}
			refused := map[string]error{}
			for _, name := range endpoints {
				if name == "web-1" {
					refused[name] = errors.New("web-1 is enrolled")
				}
			}
			return refused, nil
		}
	})
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	goodbye := tasker.Report{Version: tasker.WireVersion, Endpoint: "web-1", Instance: "journal-of-web-1", Goodbye: &tasker.Goodbye{}}
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"), update("web-1", 1), goodbye)
	send(t, newLink(t, b.URI, "web-2"), hello("web-2", "ping"), update("web-2", 2))
	send(t, newLink(t, b.URI, "web-1"), beat("web-1", "ping"))
	wait.For(t, "the refused reports to be kept", func() bool { return b.Messages(t, rabbitmq.RejectedQueue) == 4 })
	wait.For(t, "the reports of the other endpoint", func() bool { return len(in.all()) == 2 })
	for _, r := range in.all() {
		if r.Endpoint != "web-2" {
			t.Errorf("%+v was delivered", r)
		}
	}
	if n := b.Messages(t, rabbitmq.Queue("web-1")); n != -1 {
		t.Error("the refused endpoint has a queue")
	}
	wait.For(t, "all reports to be acknowledged", func() bool { return b.Messages(t, rabbitmq.ReportsQueue) == 0 })
}

// TestRevokeDuringHello deletes the queue while Authorize runs, as a concurrent revoke does.
func TestRevokeDuringHello(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
		o.Authorize = func(context.Context, string, string) error {
			b.DeleteQueue(t, rabbitmq.Queue("web-1"))
			return nil
		}
	})
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"))
	wait.For(t, "the hello", func() bool { return len(in.all()) == 1 })
	if err := hub.Send(t.Context(), assignment("ping", "web-1", 1)); !errors.Is(err, transport.ErrUnroutable) {
		t.Errorf("Send returned %v, want ErrUnroutable", err)
	}
}

func TestAuthorizationIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, report := range map[string]tasker.Report{"a hello": hello("web-1", "ping"), "a heartbeat": beat("web-1", "ping")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := rabbitmqtest.New(t)
			var calls, deliveries atomic.Int32
			hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
				o.Authorize = func(context.Context, string, string) error {
					if calls.Add(1) > 3 {
						return nil
					}
					return fmt.Errorf("%w: the database is unavailable", transport.ErrUnavailable)
				}
			})
			in := &inbox[tasker.Report]{refuse: func([]tasker.Report) error {
				if calls.Load() < 4 {
					t.Error("delivered before the sender was authorized")
				}
				deliveries.Add(1)
				return nil
			}}
			receive(t, hub, in)
			send(t, newLink(t, b.URI, "web-1"), report)
			wait.For(t, "the report", func() bool { return len(in.all()) == 1 })
			if deliveries.Load() != 1 {
				t.Errorf("delivered %d times", deliveries.Load())
			}
			if err := hub.Send(t.Context(), assignment("ping", "web-1", 1)); err != nil {
				t.Errorf("Send returned %v", err)
			}
		})
	}
}

// TestNoReplyToQueue checks that an agent cannot make the control plane publish to a queue by
// naming the queue in ReplyTo.
func TestNoReplyToQueue(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, newLink(t, b.URI, "web-1"), hello("web-1", "ping"))
	wait.For(t, "the hello of web-1", func() bool { return len(in.all()) == 1 })
	body, err := json.Marshal(hello("web-2", "ping"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, rabbitmq.ReportsExchange, "web-2", amqp.Publishing{
		Type: "hello", ContentType: "application/json", UserId: "guest", ReplyTo: rabbitmq.Queue("web-1"), Body: body,
	})
	wait.For(t, "the hello", func() bool { return len(in.all()) == 2 })
	send(t, hub, assignment("ping", "web-1", 1)) // behind any reply
	if n := b.Messages(t, rabbitmq.Queue("web-1")); n != 1 {
		t.Errorf("%d messages in the queue of web-1, want only the order", n)
	}
}
