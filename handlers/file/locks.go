package file

import (
	"context"
	"sync"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// fileLocks lets one task at a time change a file.
type fileLocks struct {
	mu sync.Mutex
	// locked has a channel for each locked file, which is closed when the file is unlocked.
	locked map[string]chan struct{}
}

// lock waits until no other task changes the file with the key. The caller must call
// unlock.
func (l *fileLocks) lock(ctx context.Context, key string, call handlers.Call) (unlock func(), err error) {
	for ctx.Err() == nil {
		l.mu.Lock()
		unlocked, ok := l.locked[key]
		if !ok {
			mine := make(chan struct{})
			l.locked[key] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.locked, key)
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		call.Progress(0, "waiting for another task that changes the same file")
		select {
		case <-unlocked:
		case <-ctx.Done():
		}
	}
	return nil, context.Cause(ctx)
}
