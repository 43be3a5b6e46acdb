// Package transport is the seam between tasker and the wire. Control plane and
// agents know these three methods and no wire; httplink and rabbitmq implement
// them, and transporttest is the suite that both pass.
package transport

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// Conn is one end of a transport. Its methods may be called concurrently, but
// Receive by one goroutine at a time.
//
// A Conn connects by itself and reconnects for as long as it is open, with
// capped exponential back-off and full jitter; an outage is never an error of
// Receive.
type Conn[Out, In any] interface {
	// Send returns nil once custody of every message has passed to the other
	// side. A *SendError names by index those for which it has not, and why; any
	// other error means that it has passed for none as far as is known. What has
	// not passed may have arrived all the same: sending again must be safe.
	Send(ctx context.Context, msgs ...Out) error

	// Receive hands over batches until ctx is done or the Conn is closed, and
	// then returns ctx's error or ErrClosed; batch and its messages belong to
	// handle until it returns. A nil from handle acknowledges the batch. An error
	// means "cannot store now": the transport holds the batch and hands the same
	// one over again with back-off; it never gives it back to the wire.
	//
	// On a Link, handle is first called with an empty batch whenever a session
	// begins: the cue to send a hello. Orders follow when the control plane has
	// taken it.
	Receive(ctx context.Context, handle func(ctx context.Context, batch []In) error) error

	// Close ends a Receive under way, waits for it, and frees everything.
	Close() error
}

// Hub is the control plane's end, Link is an agent's.
type (
	Hub  = Conn[tasker.Order, tasker.Report]
	Link = Conn[tasker.Report, tasker.Order]
)

// Errors of Send, alone or inside a *SendError; match them with errors.Is.
var (
	// ErrClosed: the Conn was closed.
	ErrClosed = errors.New("transport is closed")
	// ErrUnavailable: the other side or the broker cannot be reached now.
	ErrUnavailable = errors.New("transport is unavailable")
	// ErrOffline: the endpoint is not connected (only where nothing queues for it).
	ErrOffline = errors.New("endpoint is not connected")
	// ErrUnroutable: nobody subscribes to this type under this name.
	ErrUnroutable = errors.New("unroutable")
	// ErrRefused: the other side took the message and said no; sending the same
	// one again is of no use.
	ErrRefused = errors.New("refused")
)

// ErrShutOut: the other side does not let this agent in, or not speak in its name:
// its credential is wrong, revoked, or another's. It is in what a Link tells its
// Observer, and in the ErrUnavailable of its Send, because what it has to say
// passes once it is let in. A Link that is shut out tries again, but slowly.
var ErrShutOut = errors.New("shut out")

// SendError says for which messages of one Send custody has not passed.
type SendError struct {
	// Failed maps the index of a message to the reason.
	Failed map[int]error
	// Of is the number of messages in the Send.
	Of int
}

// Error names one of the reasons.
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

// Observer is told by a Conn how it stands: nil when a session has begun, the
// reason when it could not begin or has ended. Calls come from one goroutine at
// a time and must not block.
type Observer func(err error)
