package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// farewell bounds the closing of a connection and of a channel.
const farewell = 2 * time.Second

var errBlocked = errors.New("the broker takes no messages for now")

// session is one connection, or a branch of one, from its beginning to its end. It
// is over when its ctx is done; the cause says why.
type session struct {
	conn *amqp.Connection
	raw  net.Conn
	// branched: the connection is that of another session, which closes it.
	branched bool
	ctx      context.Context
	end      context.CancelCauseFunc
	// onFlow is told when the broker stops taking messages (with the reason) and
	// when it takes them again (nil).
	onFlow func(error)

	publisher *publisher

	mu sync.Mutex
	// flow is done while the broker blocks us from publishing.
	flow   context.Context
	closed bool

	work sync.WaitGroup // grows only while not closed
}

// newSession watches a connection until it is closed. The session ends with ctx.
func newSession(ctx context.Context, conn *amqp.Connection, raw net.Conn) *session {
	s := &session{conn: conn, raw: raw, onFlow: func(error) {}}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.flow = s.ctx
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	s.run(func() { s.end(lost(<-closes)) })
	return s
}

// branch returns a session on the same connection with channels of its own. It
// ends with s at the latest, and is not told when the broker takes no messages.
func (s *session) branch() *session {
	b := &session{conn: s.conn, raw: s.raw, branched: true, onFlow: func(error) {}}
	b.ctx, b.end = context.WithCancelCause(s.ctx)
	b.flow = b.ctx
	return b
}

// lost says that a connection or channel was closed, and why as far as is known.
func lost(err *amqp.Error) error {
	if err == nil {
		return errors.New("the connection was closed")
	}
	if err.Code == amqp.AccessRefused {
		return fmt.Errorf("%w: the broker denies the user a right that it needs: %w", transport.ErrUnauthorized, err)
	}
	return fmt.Errorf("the connection was lost: %w", err)
}

// run runs what belongs to the session, unless that is closed.
func (s *session) run(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(work)
	}
}

// over says whether the session has ended.
func (s *session) over() bool { return s.ctx.Err() != nil }

// watchFlow follows the broker's connection.blocked and unblocked.
func (s *session) watchFlow() {
	if s.branched {
		return // who listens at a connection does so until it is closed
	}
	blocks := s.conn.NotifyBlocked(make(chan amqp.Blocking, 8))
	block := s.unblock()
	s.run(func() {
		defer func() { block(nil) }()
		for b := range blocks {
			if !b.Active {
				block = s.unblock()
				s.onFlow(nil)
				continue
			}
			err := fmt.Errorf("%w: %s", errBlocked, b.Reason)
			block(err)
			s.onFlow(err)
		}
	})
}

// unblock renews the flow and returns what blocks it.
func (s *session) unblock() context.CancelCauseFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	var block context.CancelCauseFunc
	s.flow, block = context.WithCancelCause(s.ctx)
	return block
}

// flowing returns a context that is done when the broker blocks publishing, or
// the session is over.
func (s *session) flowing() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flow
}

// pause waits as the policy says. It returns an error when ctx or the session is
// over before that.
func (s *session) pause(ctx context.Context, policy backoff.Policy, tries int) error {
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	if policy.Sleep(both, tries) != nil {
		return context.Cause(both)
	}
	return nil
}

// dismiss closes a channel.
func (s *session) dismiss(ch *amqp.Channel) { s.atLast(func() { _ = ch.Close() }) }

// atLast does what is last to be done on a channel and waits for it, but not long: a
// broker that does not answer is found out by the heartbeat.
func (s *session) atLast(do func()) {
	done := make(chan struct{})
	s.run(func() {
		defer close(done)
		do()
	})
	select {
	case <-done:
	case <-s.ctx.Done():
	case <-time.After(farewell):
	}
}

// close ends the session and waits for what belongs to it. What was written
// before, acknowledgements among it, is flushed if the broker answers in time.
func (s *session) close() {
	s.end(errors.New("the session was closed"))
	switch {
	case !s.branched:
		_ = s.conn.CloseDeadline(time.Now().Add(farewell))
		_ = s.raw.Close()
	case s.publisher != nil:
		s.publisher.close()
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
}
