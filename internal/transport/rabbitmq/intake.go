package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// errQueueGone: the broker ended the consumer because its queue was deleted.
var errQueueGone = errors.New("the queue was deleted")

// consumer says how to consume a queue.
type consumer struct {
	queue, tag string
	exclusive  bool
	// batch is the largest batch, linger how long to wait for more after the
	// first message of one.
	batch    int
	linger   time.Duration
	prefetch int
}

// intake is a consumer at work.
type intake struct {
	consumer
	session    *session
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	closes     chan *amqp.Error
}

// subscribe opens a channel and consumes on it.
func subscribe(s *session, c consumer) (*intake, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open a channel to consume: %w", err)
	}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := ch.Qos(c.prefetch, 0, false); err != nil {
		return nil, fmt.Errorf("set the prefetch: %w", err)
	}
	deliveries, err := ch.Consume(c.queue, c.tag, false, c.exclusive, false, false, nil)
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", c.queue, err)
	}
	return &intake{consumer: c, session: s, channel: ch, deliveries: deliveries, closes: closes}, nil
}

// close gives back what was not acknowledged.
func (in *intake) close() { in.session.dismiss(in.channel) }

// next waits for a batch.
func (in *intake) next(ctx context.Context) ([]amqp.Delivery, error) {
	var batch []amqp.Delivery
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case d, ok := <-in.deliveries:
		if !ok {
			return nil, in.ended()
		}
		batch = append(batch, d)
	}
	linger := time.NewTimer(in.linger)
	defer linger.Stop()
	for len(batch) < in.batch {
		select {
		case d, ok := <-in.deliveries:
			if !ok {
				return nil, in.ended()
			}
			batch = append(batch, d)
		case <-linger.C:
			return batch, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return batch, nil
}

// ended says why no more deliveries come.
func (in *intake) ended() error {
	select {
	case err := <-in.closes:
		return lost(err)
	default:
		return errQueueGone
	}
}

// ack acknowledges everything up to and including last.
func (in *intake) ack(last amqp.Delivery) error {
	if err := last.Ack(true); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// setAside takes a message that cannot be accepted out of the queue: a queue
// with a dead-letter target keeps it there.
func (in *intake) setAside(d amqp.Delivery) error {
	if err := d.Reject(false); err != nil {
		return fmt.Errorf("set a message aside: %w", err)
	}
	return nil
}

// hold is how waits between tries to hand over a batch grow, and between looks
// for a queue that is to be made.
func hold() backoff.Policy {
	return backoff.Policy{First: 100 * time.Millisecond, Cap: 5 * time.Second}
}

// hand gives a batch to handle until handle takes it. The same messages are
// made anew for each try, because a batch belongs to handle.
func hand[T any](ctx context.Context, s *session, log *slog.Logger, batch func() []T, handle func(context.Context, []T) error) error {
	for tries := 0; ; tries++ {
		err := handle(ctx, batch())
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		log.Warn("received messages cannot be stored now; holding them", "tries", tries+1, "error", err)
		// When the session is over they come again on the next one.
		if err := s.pause(ctx, hold(), tries); err != nil {
			return err
		}
	}
}
