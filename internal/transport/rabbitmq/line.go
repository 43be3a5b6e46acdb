package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// steady is how long a session must have lasted for the next attempt to begin
// with a short wait again.
const steady = 10 * time.Second

// reconnect is how a line and a Receive wait between attempts.
func reconnect() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 10 * time.Second}
}

// line keeps one connection open for as long as it is not closed: it connects,
// sets the session up, waits for its end, and begins again.
type line struct {
	at   address
	name string
	// dial opens a session; nil connects.
	dial func(ctx context.Context) (*session, error)
	log  *slog.Logger
	// setup makes a session ready for use; its error ends it.
	setup func(*session) error
	// tell is told nil for a session that has begun and the reason why one could
	// not begin or has ended.
	tell func(error)
	// shutOut is how it waits when it is not let in; as after any error when nil.
	shutOut *backoff.Policy

	ctx  context.Context // done, with cause ErrClosed, when the line is closed
	end  context.CancelCauseFunc
	done chan struct{}

	mu sync.Mutex
	// session is the one that is ready, err why there is none; neither means that
	// an attempt is under way.
	session *session
	err     error
	changed chan struct{} // closed with each change of the two above
}

// start begins to connect.
func (l *line) start() {
	l.ctx, l.end = context.WithCancelCause(context.Background())
	l.done, l.changed = make(chan struct{}), make(chan struct{})
	if l.dial == nil {
		l.dial = func(ctx context.Context) (*session, error) { return dial(ctx, l.at, l.name) }
	}
	go l.run()
}

// close ends the session under way and waits for it.
func (l *line) close() {
	l.end(transport.ErrClosed)
	<-l.done
}

func (l *line) run() {
	defer close(l.done)
	for tries := 0; ; tries++ {
		began := time.Now()
		err := l.once()
		if l.ctx.Err() != nil {
			l.set(nil, transport.ErrClosed)
			return
		}
		l.set(nil, err)
		l.tell(err)
		if time.Since(began) > steady {
			tries = 0
		}
		l.log.Debug("no connection to RabbitMQ; trying again", "connection", l.name, "broker", l.at.where, "error", err)
		wait := reconnect()
		if l.shutOut != nil && errors.Is(err, transport.ErrUnauthorized) {
			wait = *l.shutOut
		}
		if wait.Sleep(l.ctx, tries) != nil {
			l.set(nil, transport.ErrClosed)
			return
		}
		l.set(nil, nil)
	}
}

// once lives through one session and returns why it ended or could not begin.
func (l *line) once() error {
	s, err := l.dial(l.ctx)
	if err != nil {
		return err
	}
	defer s.close()
	defer context.AfterFunc(l.ctx, func() { s.end(context.Cause(l.ctx)) })()
	if err := l.setup(s); err != nil {
		return err
	}
	l.log.Debug("connected to RabbitMQ", "connection", l.name, "broker", l.at.where)
	l.tell(nil)
	l.set(s, nil)
	<-s.ctx.Done()
	return context.Cause(s.ctx)
}

func (l *line) set(s *session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session, l.err = s, err
	close(l.changed)
	l.changed = make(chan struct{})
}

// get returns the session if there is one that is not over, what tells of a
// change, and why there is no session if no attempt is under way.
func (l *line) get() (*session, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session
	if s != nil && s.over() {
		s = nil
	}
	return s, l.changed, l.err
}

// now returns the session for sending. It waits for an attempt to connect that
// is under way, but for no further one.
func (l *line) now(ctx context.Context) (*session, error) {
	for {
		s, changed, err := l.get()
		switch {
		case errors.Is(err, transport.ErrClosed):
			return nil, transport.ErrClosed
		case s != nil:
			return s, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, ctx.Err())
		}
	}
}

// await returns the session for receiving, however long it takes to get one.
func (l *line) await(ctx context.Context) (*session, error) {
	for {
		s, changed, _ := l.get()
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
