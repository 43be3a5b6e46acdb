package file

import (
	"context"
	"sync"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// turns lets one task at a time work at a place.
type turns struct {
	mu sync.Mutex
	// busy has a channel, which is closed at the end, for each place at work.
	busy map[string]chan struct{}
}

// take returns when it is the call's turn; it has to be ended.
func (t *turns) take(ctx context.Context, key string, call handlers.Call) (end func(), err error) {
	for ctx.Err() == nil {
		t.mu.Lock()
		busy, ok := t.busy[key]
		if !ok {
			mine := make(chan struct{})
			t.busy[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, key)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		call.Progress(0, "waiting for another task at the same file")
		select {
		case <-busy:
		case <-ctx.Done():
		}
	}
	return nil, context.Cause(ctx)
}
