package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// closeTimeout limits the closing of a connection or a channel.
const closeTimeout = 2 * time.Second

var errBlocked = errors.New("the broker accepts no messages now")

// session is one connection to the broker, or a share of one, until it is lost or closed.
// It has ended when its ctx is done; the cause is the reason.
type session struct {
	conn *amqp.Connection
	raw  net.Conn
	// shared is true if another session owns the connection and closes it.
	shared bool
	ctx    context.Context
	end    context.CancelCauseFunc
	// onFlow is called with the reason when the broker stops accepting messages, and with
	// nil when it accepts messages again.
	onFlow func(error)

	publisher *publisher
	// received limits the memory of received messages; nil is no limit.
	received *budget

	mu sync.Mutex
	// flow is done while the broker accepts no messages.
	flow   context.Context
	closed bool

	running sync.WaitGroup // grows only before closed is set
}

// newSession returns the session of a connection. It ends when the connection is lost or
// ctx is done.
func newSession(ctx context.Context, conn *amqp.Connection, raw net.Conn) *session {
	s := &session{conn: conn, raw: raw, onFlow: func(error) {}}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.flow = s.ctx
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	s.run(func() { s.end(closeError(<-closes)) })
	return s
}

// share returns a session on the same connection with its own channels. It ends with s at
// the latest, and does not follow the flow of the connection.
func (s *session) share() *session {
	share := &session{conn: s.conn, raw: s.raw, shared: true, onFlow: func(error) {}}
	share.ctx, share.end = context.WithCancelCause(s.ctx)
	share.flow = share.ctx
	return share
}

// closeError returns why the broker closed a connection or channel.
func closeError(err *amqp.Error) error {
	if err == nil {
		return errors.New("the connection was closed")
	}
	if err.Code == amqp.AccessRefused {
		return fmt.Errorf("%w: the broker denies the user a required permission: %w", transport.ErrUnauthorized, err)
	}
	return fmt.Errorf("the connection was lost: %w", err)
}

// run calls work in a goroutine that close waits for. It does nothing after close.
func (s *session) run(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(work)
	}
}

// hasEnded reports whether the session has ended.
func (s *session) hasEnded() bool { return s.ctx.Err() != nil }

// watchFlow follows the connection.blocked and unblocked methods of the broker.
func (s *session) watchFlow() {
	if s.shared {
		return // a listener stays registered until the connection is closed
	}
	blocks := s.conn.NotifyBlocked(make(chan amqp.Blocking, 8))
	block := s.resetFlow()
	s.run(func() {
		defer func() { block(nil) }()
		for b := range blocks {
			if !b.Active {
				block = s.resetFlow()
				s.onFlow(nil)
				continue
			}
			err := fmt.Errorf("%w: %s", errBlocked, b.Reason)
			block(err)
			s.onFlow(err)
		}
	})
}

// resetFlow sets a new flow context and returns the function that ends it.
func (s *session) resetFlow() context.CancelCauseFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	var block context.CancelCauseFunc
	s.flow, block = context.WithCancelCause(s.ctx)
	return block
}

// flowContext returns a context that is done when the broker stops accepting messages or
// the session has ended.
func (s *session) flowContext() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flow
}

// closeChannel closes a channel.
func (s *session) closeChannel(ch *amqp.Channel) { s.runLast(func() { _ = ch.Close() }) }

// runLast calls the last operation on a channel and waits for it up to closeTimeout. The
// heartbeat detects a broker that does not respond.
func (s *session) runLast(operation func()) {
	done := make(chan struct{})
	s.run(func() {
		defer close(done)
		operation()
	})
	select {
	case <-done:
	case <-s.ctx.Done():
	case <-time.After(closeTimeout):
	}
}

// close ends the session and waits for its goroutines. Written data, for example
// acknowledgements, is flushed if the broker responds in time.
func (s *session) close() {
	s.end(errors.New("the session was closed"))
	switch {
	case !s.shared:
		_ = s.conn.CloseDeadline(time.Now().Add(closeTimeout))
		_ = s.raw.Close()
	case s.publisher != nil:
		s.publisher.close()
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
}
