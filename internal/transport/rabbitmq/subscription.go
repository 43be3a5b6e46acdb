package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// errConsumerCancelled means that the broker ended the consumer. It does so if the queue was
// deleted, and from RabbitMQ 4.3 on also if a message was not acknowledged in time.
var errConsumerCancelled = errors.New("the broker cancelled the consumer: the queue was deleted, or a message was not acknowledged within the broker's consumer_timeout")

// ackDelay is the longest delay of an acknowledgement.
const ackDelay = 50 * time.Millisecond

// subscriptionOptions configure a subscription.
type subscriptionOptions struct {
	queue, tag string
	exclusive  bool
	// batch is the largest batch. A smaller batch ends linger after its first message, or
	// earlier if no message has arrived for gap. The end is at least linger after the end
	// of the previous batch. So a single message waits no longer than gap, and a stream of
	// messages makes at most one batch per linger.
	batch       int
	linger, gap time.Duration
	prefetch    int
	// batchBytes is the size of the bodies at which a batch ends; zero is no limit.
	batchBytes int
}

// subscription is an active consumer of a queue.
type subscription struct {
	subscriptionOptions
	session    *session
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	closes     chan *amqp.Error
	// lastBatch is when the last batch ended.
	lastBatch time.Time

	mu sync.Mutex
	// pending is the last handled message that is not acknowledged; nil if there is none.
	// ackTimer fires when its acknowledgement must not be delayed any longer.
	pending  *amqp.Delivery
	ackTimer *time.Timer
}

// subscribe opens a channel and consumes on it.
func subscribe(s *session, o subscriptionOptions) (*subscription, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open a channel to consume: %w", err)
	}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := ch.Qos(o.prefetch, 0, false); err != nil {
		return nil, fmt.Errorf("set the prefetch: %w", err)
	}
	deliveries, err := ch.Consume(o.queue, o.tag, false, o.exclusive, false, false, nil)
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", o.queue, err)
	}
	sub := newSubscription(o, deliveries)
	sub.session, sub.channel, sub.closes = s, ch, closes
	return sub, nil
}

func newSubscription(o subscriptionOptions, deliveries <-chan amqp.Delivery) *subscription {
	ackTimer := time.NewTimer(ackDelay)
	ackTimer.Stop()
	return &subscription{subscriptionOptions: o, deliveries: deliveries, ackTimer: ackTimer}
}

// close sends the pending acknowledgement and closes the channel. The broker delivers
// messages without acknowledgement again.
func (s *subscription) close() {
	s.ackTimer.Stop()
	s.session.runLast(func() {
		_ = s.flushAck()
		_ = s.channel.Close()
	})
}

// nextBatch waits for a batch.
func (s *subscription) nextBatch(ctx context.Context) ([]amqp.Delivery, error) {
	first, err := s.nextMessage(ctx)
	if err != nil {
		return nil, err
	}
	batch, bytes := []amqp.Delivery{first}, len(first.Body)
	defer func() { s.lastBatch = time.Now() }()
	deadline := time.Now().Add(s.linger)
	timer := time.NewTimer(s.messageTimeout(deadline))
	defer timer.Stop()
	for len(batch) < s.batch && (s.batchBytes == 0 || bytes < s.batchBytes) {
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return nil, s.endError()
			}
			batch, bytes = append(batch, d), bytes+len(d.Body)
			timer.Reset(s.messageTimeout(deadline))
		case <-timer.C:
			return batch, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return batch, nil
}

// nextMessage waits for a message, and sends the pending acknowledgement when it is due.
func (s *subscription) nextMessage(ctx context.Context) (amqp.Delivery, error) {
	for {
		select {
		case <-ctx.Done():
			return amqp.Delivery{}, context.Cause(ctx)
		case <-s.ackTimer.C:
			if err := s.flushAck(); err != nil {
				return amqp.Delivery{}, err
			}
		case d, ok := <-s.deliveries:
			if !ok {
				return d, s.endError()
			}
			return d, nil
		}
	}
}

// messageTimeout returns how long to wait for the next message of a batch with this
// deadline.
func (s *subscription) messageTimeout(deadline time.Time) time.Duration {
	return min(time.Until(deadline), max(s.gap, s.linger-time.Since(s.lastBatch)))
}

// endError returns why no more messages arrive.
func (s *subscription) endError() error {
	select {
	case err := <-s.closes:
		return closeError(err)
	default:
		return errConsumerCancelled
	}
}

// ack acknowledges all messages up to and including last.
func (s *subscription) ack(last amqp.Delivery) error {
	if err := last.Ack(true); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// ackLater acknowledges all messages up to and including last, at the next flushAck or after
// ackDelay. An acknowledgement costs the broker less if it is written together with a
// published message. Until then the messages count as being handled.
func (s *subscription) ackLater(last amqp.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = &last
	s.ackTimer.Reset(ackDelay)
}

// flushAck sends the pending acknowledgement. It may be called concurrently.
func (s *subscription) flushAck() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		return nil
	}
	last := *s.pending
	s.pending = nil
	return s.ack(last)
}

// release returns the memory of handled messages.
func (s *subscription) release(deliveries []amqp.Delivery) {
	if s.session.received == nil {
		return
	}
	for _, d := range deliveries {
		s.session.received.release(len(d.Body))
	}
}

// reject removes an invalid message from the queue. A queue with a dead-letter target keeps
// it there.
func (s *subscription) reject(d amqp.Delivery) error {
	if err := d.Reject(false); err != nil {
		return fmt.Errorf("reject a message: %w", err)
	}
	return nil
}
