package agent

import (
	"sync"
	"time"
)

// resyncInterval is the shortest time between two requests for the control plane's
// time.
const resyncInterval = time.Minute

// initialMaxDelay is the longest delay of a welcome at first. It is well below the usual
// receive timeout of 30 s.
const initialMaxDelay = 10 * time.Second

// clock keeps the control plane's time. It counts from the last welcome with a
// clock that no one can set, because this machine's wall clock may be wrong.
type clock struct {
	sinceBoot func() time.Duration
	// known is closed when the first welcome has set the time.
	known chan struct{}

	mu sync.Mutex
	// boot is the control plane's time at boot; zero until the first welcome. It is early
	// by at most uncertainty.
	boot        time.Time
	uncertainty time.Duration
	// maxDelay is the longest delay of a welcome from which the time is taken.
	maxDelay time.Duration
	// resyncAt is the earliest time since boot of the next resync.
	resyncAt time.Duration
}

func newClock(sinceBoot func() time.Duration) *clock {
	return &clock{sinceBoot: sinceBoot, known: make(chan struct{}), maxDelay: initialMaxDelay}
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

// isPast reports whether a deadline may have passed at a time since boot. It is false
// before the first welcome.
func (c *clock) isPast(deadline time.Time, sinceBoot time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.boot.IsZero() && c.boot.Add(sinceBoot+c.uncertainty).After(deadline)
}

// set sets the clock from a welcome; delay is the time since its hello. The control plane's
// time was t at some moment of the delay, so the clock is early by at most the delay.
//
// The time of a welcome that was delayed for longer than a limit is not taken over: set
// returns false, and the agent should request the time again. Each such welcome doubles the
// limit, so that the clock is set even if the control plane is slow.
func (c *clock) set(t time.Time, delay time.Duration) bool {
	sinceBoot := c.sinceBoot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if delay > c.maxDelay {
		c.maxDelay *= 2
		return false
	}
	if c.boot.IsZero() {
		close(c.known)
	}
	c.boot, c.uncertainty = t.UTC().Add(-sinceBoot), delay
	return true
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
