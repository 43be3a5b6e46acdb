package wire

import (
	"context"
	"errors"
	"sync"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Operations are the running operations of a Conn, which Close ends.
type Operations struct {
	ctx    context.Context // done, with cause ErrClosed, after Close
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	running sync.WaitGroup // grows only before Close
}

// NewOperations returns Operations without a running one.
func NewOperations() *Operations {
	o := &Operations{}
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	return o
}

// Done returns a channel that is closed when Close is called.
func (o *Operations) Done() <-chan struct{} { return o.ctx.Done() }

// Closed reports whether Close was called.
func (o *Operations) Closed() bool { return o.ctx.Err() != nil }

// Start counts an operation, for which Close then waits. The returned function ends it.
// Start reports false after Close.
func (o *Operations) Start() (end func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Closed() {
		return nil, false
	}
	o.running.Add(1)
	return o.running.Done, true
}

// Begin starts an operation with a context that Close cancels. The returned function ends
// the operation. Begin returns ErrClosed after Close.
func (o *Operations) Begin(ctx context.Context) (context.Context, func(), error) {
	end, ok := o.Start()
	if !ok {
		return nil, nil, transport.ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(o.ctx, func() { cancel(transport.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		end()
	}, nil
}

// Close cancels the running operations. It does not wait for them.
func (o *Operations) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancel(transport.ErrClosed)
}

// Wait waits until the operations have ended. Close must be called before.
func (o *Operations) Wait() { o.running.Wait() }

// EndError returns the error of an operation whose context is done: ErrClosed after Close,
// otherwise the error of the context.
func EndError(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), transport.ErrClosed) {
		return transport.ErrClosed
	}
	return ctx.Err()
}
