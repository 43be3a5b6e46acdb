package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Connection records whether the other side accepts the agent's credential, and whether
// another process requests the endpoint's name. The link writes it, and the Agent reads it.
// Its methods may be called concurrently.
type Connection struct {
	mu      sync.Mutex
	refused bool
	// contestedAt is when another process last requested the name.
	contestedAt time.Time
	// changed is closed when refused changes.
	changed chan struct{}
}

// NewConnection returns a Connection whose credential has not been refused.
func NewConnection() *Connection { return &Connection{changed: make(chan struct{})} }

// Observe implements transport.Observer. A failure to connect is no answer, so it changes
// nothing.
func (c *Connection) Observe(err error) {
	refused := errors.Is(err, transport.ErrUnauthorized)
	if err != nil && !refused {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != refused {
		c.refused = refused
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// contestedFor is how long a request of another process is reported.
const contestedFor = time.Hour

// Contested records that another process has requested the endpoint's name.
func (c *Connection) Contested() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.contestedAt = time.Now()
}

// isContested reports whether another process has requested the name lately. A nil
// Connection is not contested.
func (c *Connection) isContested() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.contestedAt.IsZero() && time.Since(c.contestedAt) < contestedFor
}

// state returns whether the credential is refused, and a channel that is closed when that
// changes.
func (c *Connection) state() (refused bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused, c.changed
}

// endRefused interrupts the running assignments and ends the queued ones whenever the
// credential has been refused for UnauthorizedTimeout, until ctx is done.
func (a *Agent) endRefused(ctx context.Context) {
	if a.opts.Connection == nil || a.opts.UnauthorizedTimeout <= 0 {
		return
	}
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		refused, changed := a.opts.Connection.state()
		timer.Stop()
		if refused {
			timer.Reset(a.opts.UnauthorizedTimeout)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-timer.C:
		}
		if refused, _ := a.opts.Connection.state(); !refused {
			continue // it was accepted at the same moment
		}
		running, waiting := a.scheduler.interruptAll()
		if running+len(waiting) > 0 {
			a.opts.Log.Warn("the control plane has refused this agent for too long; its assignments are ended",
				"running", running, "waiting", len(waiting), "unauthorized_timeout", a.opts.UnauthorizedTimeout)
		}
		a.performer.end(a.performer.base, waiting...)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
