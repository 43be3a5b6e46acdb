package rabbitmq

import (
	"context"
	"errors"
	"sync"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// reception runs Receive over one session after the other, and lets Close end it.
type reception struct {
	line *line

	mu     sync.Mutex
	cancel map[int]context.CancelCauseFunc // of each Receive under way
	next   int
	closed bool
	work   sync.WaitGroup
}

// run takes from each session until ctx is done or close is called. An error of
// take ends the session.
func (r *reception) run(ctx context.Context, take func(context.Context, *session) error) error {
	life, leave, err := r.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for life.Err() == nil {
		s, err := r.line.await(life)
		if err != nil {
			break
		}
		if err := take(life, s); life.Err() == nil {
			s.end(err)
		}
	}
	if err := context.Cause(life); errors.Is(err, transport.ErrClosed) {
		return err
	}
	return ctx.Err()
}

func (r *reception) enter(ctx context.Context) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, transport.ErrClosed
	}
	if r.cancel == nil {
		r.cancel = map[int]context.CancelCauseFunc{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	id := r.next
	r.next++
	r.cancel[id] = cancel
	r.work.Add(1)
	return ctx, func() {
		defer r.work.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.cancel, id)
		cancel(nil)
	}, nil
}

// close ends what is under way and waits for it.
func (r *reception) close() {
	r.mu.Lock()
	r.closed = true
	for _, cancel := range r.cancel {
		cancel(transport.ErrClosed)
	}
	r.mu.Unlock()
	r.work.Wait()
}
