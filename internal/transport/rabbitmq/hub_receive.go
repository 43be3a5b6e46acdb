package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// reportOptions returns the options of a hub's subscription. The prefetch keeps the
// next batch ready while a batch is being stored.
func reportOptions() subscriptionOptions {
	return subscriptionOptions{queue: ReportsQueue, tag: "tasker-controlplane", batch: 200, linger: 20 * time.Millisecond, gap: 3 * time.Millisecond, prefetch: 600, batchBytes: 4 << 20}
}

// Receive implements transport.Hub. It consumes on a connection of its own, because the
// limit of memory also holds back the replies of the broker on the same connection, which
// are needed to handle the reports.
func (h *Hub) Receive(ctx context.Context, handle func(context.Context, []tasker.Report) error) error {
	return h.consume.receiveSessions(ctx, h.operations, func(ctx context.Context, s *session) error {
		in, err := dialLimited(ctx, h.consume.broker, h.consume.name+" reports")
		if err != nil {
			return err
		}
		defer in.close()
		defer context.AfterFunc(s.ctx, func() { in.end(context.Cause(s.ctx)) })()
		sub, err := subscribe(in, reportOptions())
		if err != nil {
			return err
		}
		defer sub.close()
		for {
			if err := h.receiveBatch(ctx, s, sub, handle); err != nil {
				return err
			}
		}
	})
}

// receiveBatch receives, delivers and acknowledges one batch. It declares queues in the
// session s.
func (h *Hub) receiveBatch(ctx context.Context, s *session, sub *subscription, handle wire.Handler[tasker.Report]) error {
	deliveries, err := sub.nextBatch(ctx)
	if err != nil {
		return err
	}
	defer sub.release(deliveries)
	reports, err := h.decodeAll(sub, deliveries)
	if err != nil {
		return err
	}
	if reports, err = h.refuseShared(ctx, sub, reports); err != nil {
		return err
	}
	if len(reports) == 0 {
		return nil
	}
	last := reports[len(reports)-1].delivery
	refused, err := h.updateBindings(ctx, s, reports)
	if err != nil {
		return err
	}
	for _, err := range refused {
		if errors.Is(err, wire.ErrSender) {
			h.opts.Metrics.countRefused(err)
		}
	}
	batch := make([]wire.Received[tasker.Report], 0, len(reports))
	for _, r := range reports {
		// A refused endpoint must not become connected.
		if refused[r.Endpoint] == nil || r.Hello == nil && r.Heartbeat == nil {
			batch = append(batch, wire.Received[tasker.Report]{Message: r.Report, Encoded: r.encoded})
		}
	}
	if len(batch) > 0 {
		if err := wire.Deliver(ctx, sub.session.ctx, h.opts.Log, batch, wire.DecodeReportAgain, handle); err != nil {
			return err
		}
	}
	return sub.ack(last)
}

// decodeAll decodes messages and rejects those that are refused.
func (h *Hub) decodeAll(sub *subscription, deliveries []amqp.Delivery) ([]sentReport, error) {
	reports := make([]sentReport, 0, len(deliveries))
	for _, d := range deliveries {
		r, err := h.decode(d)
		h.checkRate(d, err)
		if err != nil {
			if err := sub.reject(d); err != nil {
				return nil, err
			}
			h.logRefused(d, err)
			continue
		}
		reports = append(reports, sentReport{Report: r, encoded: d.Body, delivery: d, user: d.UserId, replyTo: replyAddress(d)})
	}
	return reports, nil
}

// replyAddress returns the address for a reply. It accepts direct replies only: a sender
// must not choose a queue that the control plane publishes to.
func replyAddress(d amqp.Delivery) string {
	if strings.HasPrefix(d.ReplyTo, directReplyTo+".") {
		return d.ReplyTo
	}
	return ""
}

// notifyReady notifies agents that their queues are declared. Agents whose notification is
// lost find their queues at their next attempt.
func (h *Hub) notifyReady(ctx context.Context, addresses []string) {
	s, _, err := h.publish.current()
	if s == nil {
		h.opts.Log.Debug("cannot notify agents that their queues are declared", "agents", len(addresses), "error", err)
		return
	}
	msgs := make([]message, len(addresses))
	for i, to := range addresses {
		msgs[i] = message{key: to, Publishing: amqp.Publishing{Type: "ready"}}
	}
	s.publisher.publish(ctx, msgs)
}

// updateBindings updates queues and bindings. It retries while endpoints cannot be
// authorized.
func (h *Hub) updateBindings(ctx context.Context, s *session, reports []sentReport) (map[string]error, error) {
	for attempt := 0; ; attempt++ {
		refused, err := h.bindings.update(ctx, s, reports)
		if !errors.Is(err, transport.ErrUnavailable) {
			return refused, err
		}
		h.opts.Log.Warn("endpoints cannot be authorized now; holding received reports", "tries", attempt+1, "error", err)
		if err := wire.Pause(ctx, s.ctx, wire.Redelivery(), attempt); err != nil {
			return nil, err
		}
	}
}

// decode decodes a report of its sender.
func (h *Hub) decode(d amqp.Delivery) (tasker.Report, error) {
	endpoint, err := h.sender(d)
	if err != nil {
		return tasker.Report{}, err
	}
	if len(d.Body) == 0 { // see boundedConn
		return tasker.Report{}, fmt.Errorf("%w: it is empty, or has more than %d bytes and was not read", reportrules.ErrRefused, reportrules.MaxReport)
	}
	return wire.DecodeReport(d.Body, endpoint)
}

// sender returns the endpoint that has sent a message. The routing key is the endpoint's
// name. The user that the broker has authenticated must be the endpoint's own or the
// control plane's, which has all rights anyway.
func (h *Hub) sender(d amqp.Delivery) (string, error) {
	endpoint := d.RoutingKey
	if err := tasker.ValidateEndpoint(endpoint); err != nil {
		return "", fmt.Errorf("%w: %w", wire.ErrSender, err)
	}
	switch d.UserId {
	case endpoint:
	case h.user:
		h.warnOnce.Do(func() {
			h.opts.Log.Warn("agents use the control plane's RabbitMQ user; except for development, give each agent its own user, with the name of its endpoint",
				"user", h.user, "endpoint", endpoint)
		})
	default:
		return "", fmt.Errorf("%w: RabbitMQ user %.200q sent a report of endpoint %q; it must be the user of that name, or the control plane's", wire.ErrSender, d.UserId, endpoint)
	}
	return endpoint, nil
}

// checkRate reports an endpoint that sends too many reports. Refused reports count more.
func (h *Hub) checkRate(d amqp.Delivery, refused error) {
	if d.UserId == h.user || tasker.ValidateEndpoint(d.UserId) != nil {
		return
	}
	reports := 1
	if refused != nil {
		reports = wire.RefusedReport
	}
	if !h.quota.Take(d.UserId, reports, len(d.Body)) {
		h.opts.TooFast(d.UserId)
	}
}

func (h *Hub) logRefused(d amqp.Delivery, err error) {
	h.opts.Metrics.countRefused(err)
	h.refusals.Add(d.UserId, err, "queue", RejectedQueue, "routing_key", fmt.Sprintf("%.200s", d.RoutingKey), "bytes", len(d.Body))
}
