package rabbitmq

import (
	"net"
	"os"
	"sync"
	"time"
)

const (
	// memoryBudget is how many bytes of received messages a hub holds until it has handled
	// them.
	memoryBudget = 16 << 20
	// messageOverhead is what a message needs besides its body, in bytes.
	messageOverhead = 1 << 10
)

// budget limits the memory of messages that were received and are not handled yet. It is
// safe for concurrent use.
type budget struct {
	size int

	mu       sync.Mutex
	used     int
	closed   bool
	deadline time.Time
	changed  chan struct{} // closed when a field changes
}

func newBudget(size int) *budget { return &budget{size: size, changed: make(chan struct{})} }

// take waits until the budget is not exhausted, then takes the memory of a message. It
// waits no longer than the deadline, and not after close.
func (b *budget) take(body int) error {
	for {
		b.mu.Lock()
		if b.used < b.size && !b.closed {
			b.used += body + messageOverhead
			b.mu.Unlock()
			return nil
		}
		closed, deadline, changed := b.closed, b.deadline, b.changed
		b.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		if err := await(changed, deadline); err != nil {
			return err
		}
	}
}

// await waits for a change until the deadline; zero is none.
func await(changed <-chan struct{}, deadline time.Time) error {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-changed:
		return nil
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

// release returns the memory of a message.
func (b *budget) release(body int) {
	b.update(func() { b.used -= body + messageOverhead })
}

func (b *budget) setDeadline(t time.Time) { b.update(func() { b.deadline = t }) }

func (b *budget) close() { b.update(func() { b.closed = true }) }

func (b *budget) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}
