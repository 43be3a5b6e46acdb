package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// markTimeout bounds the time to write down what became of claims. They are due
// again by themselves where that does not succeed.
const markTimeout = 5 * time.Second

// marker writes down what became of claims, while the next ones are sent.
type marker struct {
	outbox Outbox
	wake   chan struct{}

	mu     sync.Mutex
	sent   []store.Claim
	unsent []store.Unsent
	closed bool
	err    error
}

func newMarker(outbox Outbox) *marker { return &marker{outbox: outbox, wake: make(chan struct{}, 1)} }

func (m *marker) add(sent []store.Claim, unsent []store.Unsent) {
	m.mu.Lock()
	m.sent, m.unsent = append(m.sent, sent...), append(m.unsent, unsent...)
	m.mu.Unlock()
	m.nudge()
}

// close makes run end when everything is written.
func (m *marker) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.nudge()
}

func (m *marker) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// failed returns the error of the last write, once.
func (m *marker) failed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.err
	m.err = nil
	return err
}

// run writes until close.
func (m *marker) run() {
	for range m.wake {
		m.mu.Lock()
		sent, unsent, closed := m.sent, m.unsent, m.closed
		m.sent, m.unsent = nil, nil
		m.mu.Unlock()
		if err := m.write(sent, unsent); err != nil {
			m.mu.Lock()
			m.err = err
			m.mu.Unlock()
		}
		if closed {
			return
		}
	}
}

func (m *marker) write(sent []store.Claim, unsent []store.Unsent) error {
	ctx, cancel := context.WithTimeout(context.Background(), markTimeout)
	defer cancel()
	var err error
	if len(unsent) > 0 {
		err = m.outbox.MarkUnsent(ctx, unsent)
	}
	if len(sent) > 0 {
		err = errors.Join(err, m.outbox.MarkSent(ctx, sent))
	}
	return err
}
