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
)

// Receive implements transport.Link. A session in the sense of the seam begins
// with each taking of the queue, also when the queue was deleted and made again.
func (l *Link) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	return l.reception.run(ctx, func(ctx context.Context, s *session) error {
		for {
			err := l.attend(ctx, s, handle)
			if ctx.Err() != nil {
				return err
			}
			l.standing.set(subscribed, err)
			if !errors.Is(err, errQueueGone) {
				return err
			}
			l.opts.Log.Warn("queue was deleted; the next hello makes it again")
		}
	})
}

// attend takes the queue and what comes out of it, until that ends.
func (l *Link) attend(ctx context.Context, s *session, handle func(context.Context, []tasker.Order) error) error {
	greet := sync.OnceValue(func() error {
		l.standing.set(subscribed, nil)
		return hand(ctx, s, l.opts.Log, func() []tasker.Order { return nil }, handle)
	})
	in, err := l.takeQueue(ctx, s, greet)
	if err != nil {
		return err
	}
	defer in.close()
	l.standing.set(subscribed, nil)
	l.intake.Store(in)
	defer l.intake.Store(nil)
	if err := greet(); err != nil {
		return err
	}
	for {
		if err := l.take(ctx, in, handle); err != nil {
			return err
		}
	}
}

// look is how to wait between looks for a queue that is to be made. A control
// plane answers the hello when it has made it, so they are only for an answer
// that is lost: each look costs the broker a channel and lines in its log, and
// where thousands look, nothing else gets on.
func look() backoff.Policy { return backoff.Policy{First: 30 * time.Second, Cap: 2 * time.Minute} }

// overdue is for how long a queue must be missing to be spoken of.
const overdue = time.Second

// takeQueue consumes the endpoint's queue, exclusively, so that a name has one
// agent. It waits for whoever has it. While nobody has it because it is not
// there yet, it greets: the hello makes the control plane declare it. An agent
// whose name is in use by another one does not greet.
func (l *Link) takeQueue(ctx context.Context, s *session, greet func() error) (*intake, error) {
	orders := consumer{
		queue: Queue(l.opts.Endpoint), tag: "tasker-agent " + l.opts.Instance, exclusive: true,
		batch: 32, linger: 10 * time.Millisecond, prefetch: 32,
	}
	began := time.Now()
	var ready <-chan amqp.Delivery
	defer func() {
		if ready != nil {
			s.publisher.hush(ctx)
		}
	}()
	for tries := 0; ; tries++ {
		in, err := subscribe(s, orders)
		switch {
		case err == nil:
			return in, nil
		case refusedWith(err, amqp.NotFound):
			if ready == nil {
				if ready, err = s.publisher.listen(ctx); err != nil {
					return nil, err
				}
			}
			if err := greet(); err != nil {
				return nil, err
			}
			if ready, err = l.await(ctx, s, ready, look().Wait(tries)); err != nil {
				return nil, err
			}
			continue
		case refusedWith(err, amqp.AccessRefused) && strings.Contains(err.Error(), "exclusive use"):
			err = fmt.Errorf("endpoint name %q is in use by another agent, or by one that RabbitMQ gives up only %s after it fell silent", l.opts.Endpoint, patience)
			l.contend(began, tries, err)
		case refusedWith(err, amqp.AccessRefused):
			return nil, fmt.Errorf("%w: RabbitMQ user %q may not read queue %s; does it belong to another endpoint? %w", transport.ErrUnauthorized, l.user, orders.queue, err)
		default:
			return nil, err
		}
		l.standing.set(subscribed, err)
		if err := s.pause(ctx, reconnect(), tries); err != nil {
			return nil, err
		}
	}
}

// await waits until it is time to look for the queue, because it is ready or
// that cannot be told, and returns what to listen at from then on.
func (l *Link) await(ctx context.Context, s *session, ready <-chan amqp.Delivery, wait time.Duration) (<-chan amqp.Delivery, error) {
	speak, look := time.NewTimer(overdue), time.NewTimer(wait)
	defer speak.Stop()
	defer look.Stop()
	for {
		select {
		case _, open := <-ready:
			if !open {
				return nil, nil // what was asked on that channel is not answered any more
			}
			return ready, nil
		case <-speak.C:
			l.standing.set(subscribed, fmt.Errorf("waiting for a control plane to make queue %s", Queue(l.opts.Endpoint)))
		case <-look.C:
			return ready, nil
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// contend logs that the name is in use: first mildly, and as an error once the
// other one cannot be merely a remnant.
func (l *Link) contend(began time.Time, tries int, err error) {
	level := slog.LevelDebug
	switch {
	case tries == 0:
		level = slog.LevelWarn
	case time.Since(began) > patience:
		level = slog.LevelError
	}
	l.opts.Log.Log(context.Background(), level, "cannot take the endpoint's queue; trying again", "error", err)
}

// take receives one batch and hands it over. It is acknowledged with the report that
// follows, or soon.
func (l *Link) take(ctx context.Context, in *intake, handle func(context.Context, []tasker.Order) error) error {
	deliveries, err := in.next(ctx)
	if err != nil {
		return err
	}
	if err := in.settle(); err != nil { // to hand over may take long
		return err
	}
	good, orders := deliveries[:0], make([]tasker.Order, 0, len(deliveries))
	for _, d := range deliveries {
		o, err := decodeOrder(d.Body)
		if err != nil {
			l.opts.Log.Error("order cannot be read and is dropped", "kind", d.Type, "bytes", len(d.Body), "error", err)
			if err := in.setAside(d); err != nil {
				return err
			}
			continue
		}
		good, orders = append(good, d), append(orders, o)
	}
	if len(good) == 0 {
		return nil
	}
	batch := func() []tasker.Order {
		once := orders
		orders = nil
		if once == nil {
			for _, d := range good {
				o, _ := decodeOrder(d.Body) // it could be decoded before
				once = append(once, o)
			}
		}
		return once
	}
	if err := hand(ctx, in.session, l.opts.Log, batch, handle); err != nil {
		return err
	}
	in.owe(good[len(good)-1])
	return nil
}

// refusedWith says whether the broker refused something with this reply code.
func refusedWith(err error, code int) bool {
	var refused *amqp.Error
	return errors.As(err, &refused) && refused.Code == code
}
