package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// How many messages are published before their confirms are waited for. Each may
// be returned, and room is kept for that: 350 bytes a message.
const (
	hubWindow  = 1000
	linkWindow = 32
)

// confirmTimeout is how long a window may remain unconfirmed.
const confirmTimeout = 20 * time.Second

// errReturned: the broker has no queue for a mandatory message.
var errReturned = errors.New("returned by the broker: no queue for it")

// message is what is published, and where to.
type message struct {
	exchange, key string
	mandatory     bool
	// asks: it is to carry the address of the publisher that listens, if it does.
	asks bool
	amqp.Publishing
}

// publisher publishes with confirms, one batch at a time.
type publisher struct {
	session *session
	window  int
	// wrote is called when messages are written, before they are confirmed.
	wrote func()
	turn  chan struct{} // holds one token

	// Of the one who has the turn:
	channel *amqp.Channel
	returns chan amqp.Return
	last    uint64 // the last message id
	// listens: the channel has a consumer of answers.
	listens bool
}

// newPublisher opens the channel to publish on.
func newPublisher(s *session, window int) (*publisher, error) {
	p := &publisher{session: s, window: window, wrote: func() {}, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p, p.open()
}

// open opens a channel with confirms. Its end ends the session, which declares
// anew what may be missing.
func (p *publisher) open() error {
	ch, err := p.session.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel to publish: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return fmt.Errorf("ask for publisher confirms: %w", err)
	}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	p.session.run(func() {
		if err := <-closes; err != nil {
			p.session.end(lost(err))
		}
	})
	// The library delivers returns before the confirms that follow them, and
	// would hold up the whole connection if this were full.
	p.returns = ch.NotifyReturn(make(chan amqp.Return, p.window))
	p.channel, p.listens = ch, false
	return nil
}

// answers is RabbitMQ's direct reply-to: no queue and no right is needed to be
// told something by whoever reads a message that was published on the same
// channel (https://www.rabbitmq.com/docs/direct-reply-to).
const answers = "amq.rabbitmq.reply-to"

// listen consumes answers to messages that ask, until hush or the end of the
// channel, which closes what it returns.
func (p *publisher) listen(ctx context.Context) (<-chan amqp.Delivery, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if p.channel == nil {
		if err := p.open(); err != nil {
			return nil, err
		}
	}
	in, err := p.channel.Consume(answers, answers, true, false, false, false, nil)
	if err != nil {
		return nil, fmt.Errorf("listen for answers: %w", err)
	}
	p.listens = true
	return in, nil
}

// hush ends listen.
func (p *publisher) hush(ctx context.Context) {
	leave, err := p.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	if p.channel != nil && p.listens {
		_ = p.channel.Cancel(answers, false)
	}
	p.listens = false
}

// close closes the channel when the session is over, which ends whoever has the
// turn; a broker that does not answer is not waited for.
func (p *publisher) close() {
	select {
	case <-p.turn:
		if p.channel != nil {
			_ = p.channel.Close()
		}
	case <-time.After(farewell):
	}
}

// enter waits for the turn and returns what gives it back.
func (p *publisher) enter(ctx context.Context) (func(), error) {
	if p.session.over() {
		return nil, context.Cause(p.session.ctx)
	}
	select {
	case <-p.turn:
		return func() { p.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.session.ctx.Done():
		return nil, context.Cause(p.session.ctx)
	}
}

// publish publishes the messages and returns for each of them nil, errReturned,
// or an error with ErrUnavailable in it. The contents of msgs are changed.
func (p *publisher) publish(ctx context.Context, msgs []message) []error {
	results := make([]error, len(msgs))
	leave, err := p.enter(ctx)
	if err != nil {
		fill(results, err)
		return results
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flow := p.session.flowing()
	defer context.AfterFunc(flow, func() { cancel(context.Cause(flow)) })()
	for i := 0; i < len(msgs); i += p.window {
		n := min(p.window, len(msgs)-i)
		if err := p.burst(ctx, msgs[i:i+n], results[i:i+n]); err != nil {
			fill(results[i+n:], err)
			break
		}
	}
	return results
}

// burst publishes up to a window of messages and waits for their confirms. An error
// is also in the results, and means that the following ones need not be tried.
func (p *publisher) burst(ctx context.Context, msgs []message, results []error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmTimeout, fmt.Errorf("not confirmed within %s", confirmTimeout))
	defer cancel()
	if ctx.Err() != nil {
		fill(results, context.Cause(ctx))
		return context.Cause(ctx)
	}
	if p.channel == nil {
		if err := p.open(); err != nil {
			fill(results, err)
			return err
		}
	}
	first := p.last + 1
	confirms, err := p.write(ctx, msgs)
	p.wrote()
	fill(results[len(confirms):], err)
	for i, c := range confirms {
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
		switch {
		case c.Acked():
		case ctx.Err() != nil:
			err = context.Cause(ctx)
			results[i] = unavailable(err)
		default:
			results[i] = unavailable(errors.New("not confirmed: the broker refused it, or the connection was lost"))
		}
	}
	p.collect(first, results)
	if err != nil {
		// Confirms and returns may still come, to a channel that nobody uses.
		old := p.channel
		p.channel = nil
		p.session.run(func() { _ = old.Close() })
	}
	return err
}

// write publishes, and returns the confirms to come of what was written.
// Writing knows no context, and blocks while the broker reads nothing; then the
// connection is given up shortly after ctx is done.
func (p *publisher) write(ctx context.Context, msgs []message) ([]*amqp.DeferredConfirmation, error) {
	raw, gaveUp := p.session.raw, make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gaveUp)
		_ = raw.SetWriteDeadline(time.Now().Add(time.Second))
	})
	defer func() {
		if !stop() {
			<-gaveUp
			_ = raw.SetWriteDeadline(time.Time{})
		}
	}()
	confirms := make([]*amqp.DeferredConfirmation, 0, len(msgs))
	for _, m := range msgs {
		if ctx.Err() != nil {
			return confirms, context.Cause(ctx)
		}
		p.last++
		m.MessageId = strconv.FormatUint(p.last, 10)
		if m.asks && p.listens {
			m.ReplyTo = answers
		}
		c, err := p.channel.PublishWithDeferredConfirm(m.exchange, m.key, m.mandatory, false, m.Publishing)
		if err != nil {
			return confirms, err
		}
		confirms = append(confirms, c)
	}
	return confirms, nil
}

// collect enters what was returned into the results of the messages whose ids
// begin with first. A returned message is confirmed as well, after its return.
func (p *publisher) collect(first uint64, results []error) {
	for {
		select {
		case r, ok := <-p.returns:
			if !ok {
				return
			}
			id, err := strconv.ParseUint(r.MessageId, 10, 64)
			if err == nil && id >= first && id-first < uint64(len(results)) {
				results[id-first] = errReturned
			}
		default:
			return
		}
	}
}

func fill(results []error, err error) {
	for i := range results {
		results[i] = unavailable(err)
	}
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
}
