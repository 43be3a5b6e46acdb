package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The number of messages that are published before the publisher waits for their confirms.
// The publisher reserves room for a return of each message: 350 bytes per message.
const (
	hubWindow  = 1000
	linkWindow = 32
)

// confirmTimeout is the longest time until a window is confirmed.
const confirmTimeout = 20 * time.Second

// errReturned means that the broker has no queue for a mandatory message.
var errReturned = errors.New("returned by the broker: no queue for it")

// message is a publishing and its target.
type message struct {
	exchange, key string
	mandatory     bool
	// wantsReply is true if the message carries the publisher's address for replies.
	wantsReply bool
	amqp.Publishing
}

// publisher publishes with confirms, one batch at a time.
type publisher struct {
	session *session
	window  int
	// afterWrite is called after messages are written, before they are confirmed.
	afterWrite func()
	token      chan struct{} // holds one token, the right to publish

	// The holder of the token may use the following fields.

	channel *amqp.Channel
	returns chan amqp.Return
	lastID  uint64
	// hasReplies is true if the channel has a consumer of replies.
	hasReplies bool
}

// newPublisher opens the channel to publish on.
func newPublisher(s *session, window int) (*publisher, error) {
	p := &publisher{session: s, window: window, afterWrite: func() {}, token: make(chan struct{}, 1)}
	p.token <- struct{}{}
	return p, p.open()
}

// open opens a channel with confirms. An error on the channel ends the session; the next
// session declares missing exchanges and queues again.
func (p *publisher) open() error {
	ch, err := p.session.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel to publish: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return fmt.Errorf("enable publisher confirms: %w", err)
	}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	p.session.run(func() {
		if err := <-closes; err != nil {
			p.session.end(closeError(err))
		}
	})
	// The library delivers returns before the confirms that follow them. It would block
	// the whole connection if this channel was full.
	p.returns = ch.NotifyReturn(make(chan amqp.Return, p.window))
	p.channel, p.hasReplies = ch, false
	return nil
}

// directReplyTo is RabbitMQ's direct reply-to: the receiver of a message can reply to the
// channel that published it, without a queue and without permissions
// (https://www.rabbitmq.com/docs/direct-reply-to).
const directReplyTo = "amq.rabbitmq.reply-to"

// receiveReplies consumes replies to messages with wantsReply, until stopReplies. The
// returned channel is closed when the publisher's channel ends.
func (p *publisher) receiveReplies(ctx context.Context) (<-chan amqp.Delivery, error) {
	release, err := p.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if p.channel == nil {
		if err := p.open(); err != nil {
			return nil, err
		}
	}
	in, err := p.channel.Consume(directReplyTo, directReplyTo, true, false, false, false, nil)
	if err != nil {
		return nil, fmt.Errorf("consume replies: %w", err)
	}
	p.hasReplies = true
	return in, nil
}

// stopReplies ends receiveReplies.
func (p *publisher) stopReplies(ctx context.Context) {
	release, err := p.acquire(ctx)
	if err != nil {
		return
	}
	defer release()
	if p.channel != nil && p.hasReplies {
		_ = p.channel.Cancel(directReplyTo, false)
	}
	p.hasReplies = false
}

// close closes the channel. The session must have ended, so that the holder of the token
// returns it. close does not wait for a broker that does not respond.
func (p *publisher) close() {
	select {
	case <-p.token:
		if p.channel != nil {
			_ = p.channel.Close()
		}
	case <-time.After(closeTimeout):
	}
}

// acquire waits for the token. The returned function gives it back.
func (p *publisher) acquire(ctx context.Context) (func(), error) {
	if p.session.hasEnded() {
		return nil, context.Cause(p.session.ctx)
	}
	select {
	case <-p.token:
		return func() { p.token <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.session.ctx.Done():
		return nil, context.Cause(p.session.ctx)
	}
}

// publish publishes the messages. It returns for each message nil, errReturned, or an error
// that wraps ErrUnavailable. It modifies msgs.
func (p *publisher) publish(ctx context.Context, msgs []message) []error {
	results := make([]error, len(msgs))
	release, err := p.acquire(ctx)
	if err != nil {
		failAll(results, err)
		return results
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flow := p.session.flowContext()
	defer context.AfterFunc(flow, func() { cancel(context.Cause(flow)) })()
	for i := 0; i < len(msgs); i += p.window {
		n := min(p.window, len(msgs)-i)
		if err := p.publishWindow(ctx, msgs[i:i+n], results[i:i+n]); err != nil {
			failAll(results[i+n:], err)
			break
		}
	}
	return results
}

// publishWindow publishes up to a window of messages and waits for their confirms. After an
// error, which is also in the results, the following messages need not be published.
func (p *publisher) publishWindow(ctx context.Context, msgs []message, results []error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmTimeout, fmt.Errorf("not confirmed within %s", confirmTimeout))
	defer cancel()
	if ctx.Err() != nil {
		failAll(results, context.Cause(ctx))
		return context.Cause(ctx)
	}
	if p.channel == nil {
		if err := p.open(); err != nil {
			failAll(results, err)
			return err
		}
	}
	first := p.lastID + 1
	confirms, err := p.write(ctx, msgs)
	p.afterWrite()
	failAll(results[len(confirms):], err)
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
	p.collectReturns(first, results)
	if err != nil {
		// Confirms and returns may still arrive, on a channel that is not used any more.
		old := p.channel
		p.channel = nil
		p.session.run(func() { _ = old.Close() })
	}
	return err
}

// write publishes messages and returns the pending confirms of the written ones. A write
// blocks while the broker does not read, and accepts no context. So shortly after ctx is
// done, a deadline ends it, and the connection with it.
func (p *publisher) write(ctx context.Context, msgs []message) ([]*amqp.DeferredConfirmation, error) {
	raw, interrupted := p.session.raw, make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = raw.SetWriteDeadline(time.Now().Add(time.Second))
	})
	defer func() {
		if !stop() {
			<-interrupted
			_ = raw.SetWriteDeadline(time.Time{})
		}
	}()
	confirms := make([]*amqp.DeferredConfirmation, 0, len(msgs))
	for _, m := range msgs {
		if ctx.Err() != nil {
			return confirms, context.Cause(ctx)
		}
		p.lastID++
		m.MessageId = strconv.FormatUint(p.lastID, 10)
		if m.wantsReply && p.hasReplies {
			m.ReplyTo = directReplyTo
		}
		c, err := p.channel.PublishWithDeferredConfirm(m.exchange, m.key, m.mandatory, false, m.Publishing)
		if err != nil {
			return confirms, err
		}
		confirms = append(confirms, c)
	}
	return confirms, nil
}

// collectReturns sets the results of returned messages; first is the id of the first
// result's message. The broker confirms a returned message, too, after the return.
func (p *publisher) collectReturns(first uint64, results []error) {
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

// failAll sets all results to ErrUnavailable because of err.
func failAll(results []error, err error) {
	for i := range results {
		results[i] = unavailable(err)
	}
}
