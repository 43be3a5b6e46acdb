package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// connection keeps a session with the broker: it connects, sets the session up, waits for
// its end, and connects again until it is closed.
type connection struct {
	broker address
	name   string
	// dial opens a session; nil opens a connection of its own.
	dial func(ctx context.Context) (*session, error)
	log  *slog.Logger
	// setUp prepares a session for use; its error ends the session.
	setUp func(*session) error
	// observe receives nil after a session has begun, or the reason why a session could
	// not begin or has ended.
	observe func(error)
	// slow selects longer waits after transport.ErrUnauthorized.
	slow bool

	ctx  context.Context // done, with cause ErrClosed, after close
	end  context.CancelCauseFunc
	done chan struct{}

	mu sync.Mutex
	// session is the current session, err the reason why there is none. If both are nil,
	// an attempt to connect is in progress.
	session *session
	err     error
	changed chan struct{} // closed when session or err changes
}

// start begins to connect.
func (c *connection) start() {
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.done, c.changed = make(chan struct{}), make(chan struct{})
	if c.dial == nil {
		c.dial = func(ctx context.Context) (*session, error) { return dial(ctx, c.broker, c.name, nil) }
	}
	go c.run()
}

// close ends the current session and waits for its end.
func (c *connection) close() {
	c.end(transport.ErrClosed)
	<-c.done
}

func (c *connection) run() {
	defer close(c.done)
	wire.Reconnect(c.ctx, c.slow, func(ctx context.Context) error {
		c.set(nil, nil)
		return c.runSession(ctx)
	}, func(err error) {
		c.set(nil, err)
		c.observe(err)
		c.log.Debug("no connection to RabbitMQ; trying again", "connection", c.name, "broker", c.broker.description, "error", err)
	})
	c.set(nil, transport.ErrClosed)
}

// runSession returns why a session ended or could not begin.
func (c *connection) runSession(ctx context.Context) error {
	s, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	defer context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })()
	if err := c.setUp(s); err != nil {
		return err
	}
	c.log.Debug("connected to RabbitMQ", "connection", c.name, "broker", c.broker.description)
	c.observe(nil)
	c.set(s, nil)
	<-s.ctx.Done()
	return context.Cause(s.ctx)
}

func (c *connection) set(s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.err = s, err
	close(c.changed)
	c.changed = make(chan struct{})
}

// current returns the current session, if there is one. It also returns a channel that is
// closed after a change, and why there is no session unless an attempt to connect is in
// progress.
func (c *connection) current() (*session, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.session
	if s != nil && s.hasEnded() {
		s = nil
	}
	return s, c.changed, c.err
}

// sendSession returns the session for sending. It waits for an attempt to connect in
// progress, but not for a further one.
func (c *connection) sendSession(ctx context.Context) (*session, error) {
	for {
		s, changed, err := c.current()
		switch {
		case errors.Is(err, transport.ErrClosed):
			return nil, transport.ErrClosed
		case s != nil:
			return s, nil
		case err != nil:
			return nil, unavailable(err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		}
	}
}

// awaitSession returns the session for receiving. It waits until there is one or ctx is
// done.
func (c *connection) awaitSession(ctx context.Context) (*session, error) {
	for {
		s, changed, _ := c.current()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// receiveSessions calls receive with one session after the other, until ctx or the
// operations end. An error of receive ends the session.
func (c *connection) receiveSessions(ctx context.Context, operations *wire.Operations, receive func(context.Context, *session) error) error {
	ctx, end, err := operations.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	for ctx.Err() == nil {
		s, err := c.awaitSession(ctx)
		if err != nil {
			break
		}
		if err := receive(ctx, s); ctx.Err() == nil {
			s.end(err)
		}
	}
	return wire.EndError(ctx)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
}

// SharedConnection is a connection that many links share, each with its own channels. It
// serves a fleet of agents in one process, which cannot hold a connection for each agent.
// The broker limits the channels of a connection (2,047 by default); a link has two.
type SharedConnection struct {
	connection *connection
}

// NewSharedConnection begins to connect. The broker shows the name. It returns an error only
// for an invalid URI.
func NewSharedConnection(uri, name string, trust *tls.Config, log *slog.Logger) (*SharedConnection, error) {
	broker, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	broker.tls = trust
	c := &SharedConnection{&connection{
		broker: broker, name: name, log: log, slow: true,
		setUp: func(*session) error { return nil }, observe: func(error) {},
	}}
	c.connection.start()
	return c, nil
}

// session waits for the connection and returns a session with its own channels.
func (c *SharedConnection) session(ctx context.Context) (*session, error) {
	s, err := c.connection.awaitSession(ctx)
	if err != nil {
		return nil, err
	}
	return s.share(), nil
}

// Close closes the connection. Its links must be closed before.
func (c *SharedConnection) Close() { c.connection.close() }
