// Package transport defines the interface between tasker and its message transports.
// The control plane and the agents use Hub and Link and do not depend on a protocol.
// Packages httplink and rabbitmq implement them, package wire holds the code that both
// share, and package transporttest is the conformance suite that both pass.
package transport

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// Conn is one end of a transport. Its methods may be called concurrently, except that
// only one goroutine may call Receive at a time.
//
// A Conn connects in the background and reconnects until it is closed, with capped
// exponential back-off and full jitter. Receive does not return an error for an outage.
type Conn[Out, In any] interface {
	// Send returns nil after the other side has accepted responsibility for every
	// message. A *SendError names by index the messages for which it has not, and why;
	// any other error means that no message is known to be accepted. A message that
	// failed may have arrived nevertheless, so it must be safe to send it again.
	Send(ctx context.Context, msgs ...Out) error

	// Receive passes batches to handle until ctx is done or the Conn is closed, then
	// returns ctx's error or ErrClosed. The batch and its messages belong to handle
	// until it returns. If handle returns nil, the batch is acknowledged. An error means
	// that the batch cannot be stored now: the transport keeps it and delivers the same
	// batch again with back-off. It never requeues a batch.
	//
	// A Link calls handle with an empty batch whenever a session begins, as the signal to
	// send a hello. Orders follow after the control plane has received the hello.
	Receive(ctx context.Context, handle func(ctx context.Context, batch []In) error) error

	// Close ends Receive, waits for it to return, and releases all resources.
	Close() error
}

// Hub is the control plane's end of a transport.
type Hub = Conn[tasker.Order, tasker.Report]

// Link is an agent's end of a transport.
type Link = Conn[tasker.Report, tasker.Order]

// Send returns these errors, directly or inside a *SendError; match them with errors.Is.
var (
	// ErrClosed means that the Conn was closed.
	ErrClosed = errors.New("transport is closed")
	// ErrUnavailable means that the other side or the broker cannot be reached now.
	ErrUnavailable = errors.New("transport is unavailable")
	// ErrOffline means that the endpoint is not connected and the transport does not
	// queue messages for it. The message has not been sent.
	ErrOffline = errors.New("endpoint is not connected")
	// ErrUnroutable means that the endpoint does not subscribe to the task type. The
	// message has not been sent.
	ErrUnroutable = errors.New("unroutable")
	// ErrRefused means that the other side received and rejected the message; it will
	// reject the same message again.
	ErrRefused = errors.New("refused")
)

// ErrUnauthorized means that the other side does not accept the agent's credential for
// this endpoint: it is wrong, revoked, or belongs to another endpoint. A Link passes the
// error to its Observer, and Send returns it wrapped in ErrUnavailable, because the
// reports are accepted after the credential is corrected. The Link retries slowly.
var ErrUnauthorized = errors.New("unauthorized")

// SendError names the messages of one Send that were not accepted.
type SendError struct {
	// Failed maps the index of a message to the reason.
	Failed map[int]error
	// Of is the number of messages in the Send.
	Of int
}

// Error returns one of the reasons.
func (e *SendError) Error() string {
	for _, err := range e.Failed {
		return fmt.Sprintf("%d of %d messages not sent, one of them: %v", len(e.Failed), e.Of, err)
	}
	return "no message failed"
}

// Unwrap returns the reasons.
func (e *SendError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed))
	for _, err := range e.Failed {
		errs = append(errs, err)
	}
	return errs
}

// Observer receives the connection state of a Conn: nil after a session has begun, or the
// reason why a session could not begin or has ended. A Conn makes one call at a time; an
// Observer must not block.
type Observer func(err error)
