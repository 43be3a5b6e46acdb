package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// reports says how a hub consumes. The prefetch keeps the next batch ready
// while one is stored.
func reports() consumer {
	return consumer{queue: ReportsQueue, tag: "tasker-controlplane", batch: 200, linger: 20 * time.Millisecond, gap: 3 * time.Millisecond, prefetch: 600}
}

// Receive implements transport.Hub.
func (h *Hub) Receive(ctx context.Context, handle func(context.Context, []tasker.Report) error) error {
	return h.reception.run(ctx, func(ctx context.Context, s *session) error {
		in, err := subscribe(s, reports())
		if err != nil {
			return err
		}
		defer in.close()
		for {
			if err := h.take(ctx, in, handle); err != nil {
				return err
			}
		}
	})
}

// take receives one batch, hands it over and acknowledges it.
func (h *Hub) take(ctx context.Context, in *intake, handle func(context.Context, []tasker.Report) error) error {
	deliveries, err := in.next(ctx)
	if err != nil {
		return err
	}
	good, reports, all := deliveries[:0], make([]tasker.Report, 0, len(deliveries)), make([]said, 0, len(deliveries))
	for _, d := range deliveries {
		r, err := h.read(d)
		if err != nil {
			if err := in.setAside(d); err != nil {
				return err
			}
			h.refuse(d, err)
			continue
		}
		good, reports, all = append(good, d), append(reports, r), append(all, said{Report: r, user: d.UserId, asker: asker(d)})
	}
	if len(good) == 0 {
		return nil
	}
	refused, err := h.follow(ctx, in.session, all)
	if err != nil {
		return err
	}
	for _, err := range refused {
		if errors.Is(err, errSpeaker) {
			h.opts.Metrics.refuse(err)
		}
	}
	last := good[len(good)-1]
	withheld := func(r tasker.Report) bool {
		return refused[r.Endpoint] != nil && (r.Hello != nil || r.Heartbeat != nil)
	}
	batch := func() []tasker.Report {
		if reports == nil {
			for _, d := range good {
				r, _ := decodeReport(d.Body) // it could be decoded before
				reports = append(reports, r)
			}
		}
		once := slices.DeleteFunc(reports, withheld)
		reports = nil
		return once
	}
	if slices.ContainsFunc(reports, func(r tasker.Report) bool { return !withheld(r) }) {
		if err := hand(ctx, in.session, h.opts.Log, batch, handle); err != nil {
			return err
		}
	}
	return in.ack(last)
}

// asker is the address for an answer. It must be one of direct replies: nobody
// may have the control plane write into a queue of his choice.
func asker(d amqp.Delivery) string {
	if strings.HasPrefix(d.ReplyTo, answers+".") {
		return d.ReplyTo
	}
	return ""
}

// ready tells agents that wait for their queues that they are there. What is lost
// they find out by themselves, if later.
func (h *Hub) ready(ctx context.Context, askers []string) {
	s, _, err := h.publish.get()
	if s == nil {
		h.opts.Log.Debug("agents are not told that their queues are there", "agents", len(askers), "error", err)
		return
	}
	msgs := make([]message, len(askers))
	for i, to := range askers {
		msgs[i] = message{key: to, Publishing: amqp.Publishing{Type: "ready"}}
	}
	s.publisher.publish(ctx, msgs)
}

// follow puts the routes right, however long it takes to tell who may speak.
func (h *Hub) follow(ctx context.Context, s *session, reports []said) (map[string]error, error) {
	for tries := 0; ; tries++ {
		refused, err := h.routes.follow(ctx, s, reports)
		if !errors.Is(err, transport.ErrUnavailable) {
			return refused, err
		}
		h.opts.Log.Warn("who may speak cannot be told now; holding what was received", "tries", tries+1, "error", err)
		if err := s.pause(ctx, hold(), tries); err != nil {
			return nil, err
		}
	}
}

// read decodes a report and checks who speaks: the routing key must be the
// endpoint's name, and the broker must vouch for the endpoint's own user or for
// the control plane's, whose owner has everything in hand anyway.
func (h *Hub) read(d amqp.Delivery) (tasker.Report, error) {
	r, err := decodeReport(d.Body)
	if err != nil {
		return r, err
	}
	if err := tasker.ValidateEndpoint(r.Endpoint); err != nil {
		return r, fmt.Errorf("%w: %w", errSpeaker, err)
	}
	if d.RoutingKey != r.Endpoint {
		return r, fmt.Errorf("%w: a report of %q came under the name %q", errSpeaker, r.Endpoint, d.RoutingKey)
	}
	switch d.UserId {
	case r.Endpoint:
	case h.user:
		h.warnOnce.Do(func() {
			h.opts.Log.Warn("agents use the control plane's RabbitMQ user; give each its own, named as the endpoint, except for development",
				"user", h.user, "endpoint", r.Endpoint)
		})
	default:
		return r, fmt.Errorf("%w: RabbitMQ user %q speaks for endpoint %q; it must be a user of that name, or the control plane's", errSpeaker, d.UserId, r.Endpoint)
	}
	return r, nil
}

func (h *Hub) refuse(d amqp.Delivery, err error) {
	h.opts.Metrics.refuse(err)
	h.opts.Log.Error("report refused and set aside", "queue", SetAsideQueue, "endpoint", d.RoutingKey,
		"user", d.UserId, "kind", d.Type, "bytes", len(d.Body), "error", err)
}
