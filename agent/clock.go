package agent

import (
	"sync"
	"time"
)

// resyncInterval is the shortest time between two requests for the control plane's
// time.
const resyncInterval = time.Minute

// clock keeps the control plane's time. It counts from the last welcome with a
// clock that no one can set, because this machine's wall clock may be wrong.
type clock struct {
	sinceBoot func() time.Duration
	// known is closed when the first welcome has set the time.
	known chan struct{}

	mu sync.Mutex
	// boot is the control plane's time at boot; zero until the first welcome.
	boot time.Time
	// resyncAt is the earliest time since boot of the next resync.
	resyncAt time.Duration
}

func newClock(sinceBoot func() time.Duration) *clock {
	return &clock{sinceBoot: sinceBoot, known: make(chan struct{})}
}

// now returns the control plane's time; false before the first welcome.
func (c *clock) now() (time.Time, bool) { return c.at(c.sinceBoot()) }

// at converts a time since boot into the control plane's time.
func (c *clock) at(sinceBoot time.Duration) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.boot.IsZero() {
		return time.Time{}, false
	}
	return c.boot.Add(sinceBoot), true
}

// stamp returns the control plane's time for an update; nil while it is unknown.
func (c *clock) stamp() *time.Time {
	t, ok := c.now()
	if !ok {
		return nil
	}
	return &t
}

// set takes over the time of a welcome. The clock is late by the time that the
// welcome took to arrive, so deadlines pass that much later.
func (c *clock) set(t time.Time) {
	sinceBoot := c.sinceBoot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.boot.IsZero() {
		close(c.known)
	}
	c.boot = t.UTC().Add(-sinceBoot)
}

// startResync reports whether the agent should request the control plane's time
// again, and starts the interval in which it should not.
func (c *clock) startResync() bool {
	now := c.sinceBoot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now < c.resyncAt {
		return false
	}
	c.resyncAt = now + resyncInterval
	return true
}
