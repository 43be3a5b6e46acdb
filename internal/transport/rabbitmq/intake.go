package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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
	// batch is the largest batch. A smaller one ends linger after its first message,
	// and before that when nothing has come for gap, but not within linger of the
	// one before: so what is alone waits no longer than gap, and a stream comes in
	// no more batches than one each linger.
	batch       int
	linger, gap time.Duration
	prefetch    int
}

// intake is a consumer at work.
type intake struct {
	consumer
	session    *session
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	closes     chan *amqp.Error
	// ended is when the last batch did.
	ended time.Time

	mu sync.Mutex
	// owed is the last message that is to be acknowledged; nil is none. overdue is
	// when nothing has come along that this could be written with.
	owed    *amqp.Delivery
	overdue *time.Timer
}

// grace is how long an acknowledgement may be owed.
const grace = 50 * time.Millisecond

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
	in := newIntake(c, deliveries)
	in.session, in.channel, in.closes = s, ch, closes
	return in, nil
}

func newIntake(c consumer, deliveries <-chan amqp.Delivery) *intake {
	overdue := time.NewTimer(grace)
	overdue.Stop()
	return &intake{consumer: c, deliveries: deliveries, overdue: overdue}
}

// close settles what is owed, and gives back what was not acknowledged.
func (in *intake) close() {
	in.overdue.Stop()
	in.session.atLast(func() {
		_ = in.settle()
		_ = in.channel.Close()
	})
}

// next waits for a batch.
func (in *intake) next(ctx context.Context) ([]amqp.Delivery, error) {
	var batch []amqp.Delivery
	for len(batch) == 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-in.overdue.C:
			if err := in.settle(); err != nil {
				return nil, err
			}
		case d, ok := <-in.deliveries:
			if !ok {
				return nil, in.over()
			}
			batch = append(batch, d)
		}
	}
	defer func() { in.ended = time.Now() }()
	last := time.Now().Add(in.linger)
	timer := time.NewTimer(in.wait(last))
	defer timer.Stop()
	for len(batch) < in.batch {
		select {
		case d, ok := <-in.deliveries:
			if !ok {
				return nil, in.over()
			}
			batch = append(batch, d)
			timer.Reset(in.wait(last))
		case <-timer.C:
			return batch, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return batch, nil
}

// wait is how long to wait for the next message of a batch that ends at last.
func (in *intake) wait(last time.Time) time.Duration {
	return min(time.Until(last), max(in.gap, in.linger-time.Since(in.ended)))
}

// over says why no more deliveries come.
func (in *intake) over() error {
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

// owe acknowledges everything up to and including last a little later: with what is
// published next, if settle is called then, which costs a broker less than either on
// its own. Meanwhile it is as if it was still being handled.
func (in *intake) owe(last amqp.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.owed = &last
	in.overdue.Reset(grace)
}

// settle acknowledges what is owed. It may be called by anybody.
func (in *intake) settle() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.owed == nil {
		return nil
	}
	last := *in.owed
	in.owed = nil
	return in.ack(last)
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
