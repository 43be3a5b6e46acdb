package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

const (
	// nameTimeout is the longest time until the broker detects that the previous holder of
	// the endpoint's name is gone.
	nameTimeout = 3 * heartbeat
	// noticeDelay is how long a queue must be missing before the observer is notified.
	noticeDelay = time.Second
)

// queueRetry is the back-off between attempts to consume a missing queue. The control plane
// replies to a hello after it has declared the queue, so the retries only cover a lost
// reply. Each attempt costs the broker a channel and lines in its log, and thousands of
// agents that retry often would overload it.
func queueRetry() backoff.Policy {
	return backoff.Policy{First: 30 * time.Second, Cap: 2 * time.Minute}
}

// Receive implements transport.Link. A session of the transport begins with each
// subscription to the queue, also after the queue was deleted and declared again.
func (l *Link) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	return l.connection.receiveSessions(ctx, l.operations, func(ctx context.Context, s *session) error {
		for {
			err := l.receive(ctx, s, handle)
			if ctx.Err() != nil {
				return err
			}
			l.health.set(queueComponent, err)
			if !errors.Is(err, errConsumerCancelled) {
				return err
			}
			l.opts.Log.Warn("consumer ended; subscribing again, and the next hello declares the queue if it is missing", "error", err)
		}
	})
}

// receive subscribes to the endpoint's queue and delivers its orders until an error.
func (l *Link) receive(ctx context.Context, s *session, handle wire.Handler[tasker.Order]) error {
	signalHello := sync.OnceValue(func() error {
		l.health.set(queueComponent, nil)
		return wire.Signal(ctx, s.ctx, l.opts.Log, handle)
	})
	sub, err := l.subscribe(ctx, s, signalHello)
	if err != nil {
		return err
	}
	defer sub.close()
	l.health.set(queueComponent, nil)
	l.subscription.Store(sub)
	defer l.subscription.Store(nil)
	if err := signalHello(); err != nil {
		return err
	}
	for {
		if err := l.receiveBatch(ctx, sub, handle); err != nil {
			return err
		}
	}
}

// subscribe consumes the endpoint's queue exclusively, so that a name belongs to one agent.
// It waits while another agent holds the queue. While the queue does not exist, it signals
// a hello, because the control plane declares the queue when it receives the hello. An
// agent whose name is in use by another agent sends no hello.
func (l *Link) subscribe(ctx context.Context, s *session, signalHello func() error) (*subscription, error) {
	orders := subscriptionOptions{
		queue: Queue(l.opts.Endpoint), tag: "tasker-agent " + l.opts.Instance, exclusive: true,
		batch: 32, linger: 10 * time.Millisecond, prefetch: 32,
	}
	began := time.Now()
	var replies <-chan amqp.Delivery
	defer func() {
		if replies != nil {
			s.publisher.stopReplies(ctx)
		}
	}()
	for attempt := 0; ; attempt++ {
		sub, err := subscribe(s, orders)
		switch {
		case err == nil:
			return sub, nil
		case hasReplyCode(err, amqp.NotFound):
			if replies, err = l.requestQueue(ctx, s, replies, signalHello, attempt); err != nil {
				return nil, err
			}
			continue
		case hasReplyCode(err, amqp.AccessRefused) && strings.Contains(err.Error(), "exclusive use"):
			err = fmt.Errorf("endpoint name %q is in use by another agent, or by an agent whose lost connection RabbitMQ detects only after %s", l.opts.Endpoint, nameTimeout)
			l.logNameInUse(began, attempt, err)
		case hasReplyCode(err, amqp.AccessRefused):
			return nil, fmt.Errorf("%w: RabbitMQ user %q may not read queue %s; does it belong to another endpoint? %w", transport.ErrUnauthorized, l.user, orders.queue, err)
		default:
			return nil, err
		}
		l.health.set(queueComponent, err)
		if err := wire.Pause(ctx, s.ctx, wire.Reconnection(), attempt); err != nil {
			return nil, err
		}
	}
}

// requestQueue signals a hello and waits for the queue. It consumes replies first, unless
// replies is already set, and returns the channel for further replies like awaitQueue.
func (l *Link) requestQueue(ctx context.Context, s *session, replies <-chan amqp.Delivery, signalHello func() error, attempt int) (<-chan amqp.Delivery, error) {
	if replies == nil {
		var err error
		if replies, err = s.publisher.receiveReplies(ctx); err != nil {
			return nil, err
		}
	}
	if err := signalHello(); err != nil {
		return replies, err
	}
	return l.awaitQueue(ctx, s, replies, queueRetry().Wait(attempt))
}

// awaitQueue waits until the queue is declared or the next attempt is due. It returns the
// channel for further replies; nil if it was closed.
func (l *Link) awaitQueue(ctx context.Context, s *session, replies <-chan amqp.Delivery, wait time.Duration) (<-chan amqp.Delivery, error) {
	notice, retry := time.NewTimer(noticeDelay), time.NewTimer(wait)
	defer notice.Stop()
	defer retry.Stop()
	for {
		select {
		case _, open := <-replies:
			if !open {
				return nil, nil // replies to requests on this channel are lost
			}
			return replies, nil
		case <-notice.C:
			l.health.set(queueComponent, fmt.Errorf("waiting for a control plane to declare queue %s", Queue(l.opts.Endpoint)))
		case <-retry.C:
			return replies, nil
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// logNameInUse logs that the endpoint's name is in use. It logs an error only after
// nameTimeout, when the other holder cannot be a lost connection any more.
func (l *Link) logNameInUse(began time.Time, attempt int, err error) {
	level := slog.LevelDebug
	switch {
	case attempt == 0:
		level = slog.LevelWarn
	case time.Since(began) > nameTimeout:
		level = slog.LevelError
	}
	l.opts.Log.Log(context.Background(), level, "cannot consume the endpoint's queue; trying again", "error", err)
}

// receiveBatch receives and delivers one batch. The acknowledgement follows with the next
// report, or after ackDelay.
func (l *Link) receiveBatch(ctx context.Context, sub *subscription, handle wire.Handler[tasker.Order]) error {
	deliveries, err := sub.nextBatch(ctx)
	if err != nil {
		return err
	}
	// The delivery may take long, so send the pending acknowledgement before it.
	if err := sub.flushAck(); err != nil {
		return err
	}
	var last amqp.Delivery
	orders := make([]wire.Received[tasker.Order], 0, len(deliveries))
	for _, d := range deliveries {
		o, err := wire.DecodeOrder(d.Body)
		if err != nil {
			l.opts.Log.Error("order cannot be decoded and is dropped", "kind", d.Type, "bytes", len(d.Body), "error", err)
			if err := sub.reject(d); err != nil {
				return err
			}
			continue
		}
		last, orders = d, append(orders, wire.Received[tasker.Order]{Message: o, Encoded: d.Body})
	}
	if len(orders) == 0 {
		return nil
	}
	if err := wire.Deliver(ctx, sub.session.ctx, l.opts.Log, orders, wire.DecodeOrder, handle); err != nil {
		return err
	}
	sub.ackLater(last)
	return nil
}

// hasReplyCode reports whether the broker refused a method with this reply code.
func hasReplyCode(err error, code int) bool {
	var refused *amqp.Error
	return errors.As(err, &refused) && refused.Code == code
}
