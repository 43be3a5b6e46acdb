package agent

import "time"

// now is the control plane's time; false before the first welcome. It never
// depends on this machine's wall clock, which may be wrong or be set.
func (a *Agent) now() (time.Time, bool) {
	return a.timeAt(a.opts.Clock())
}

// timeAt is the control plane's time when the clock said at.
func (a *Agent) timeAt(at time.Duration) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeAtLocked(at)
}

func (a *Agent) timeAtLocked(at time.Duration) (time.Time, bool) {
	if a.offset.IsZero() {
		return time.Time{}, false
	}
	return a.offset.Add(at), true
}

// stamp is the control plane's time for an update, as far as it is known.
func (a *Agent) stampLocked() *time.Time {
	t, ok := a.timeAtLocked(a.opts.Clock())
	if !ok {
		return nil
	}
	return &t
}

// setTime takes over the control plane's time. The way of the welcome makes it
// late by a network's latency, which only lets deadlines pass that much later.
func (a *Agent) setTime(t time.Time) {
	at := a.opts.Clock()
	a.mu.Lock()
	a.offset = t.UTC().Add(-at)
	a.mu.Unlock()
	a.welcomedOnce.Do(func() { close(a.welcomed) })
}

// doubtEvery is how often it is asked for the time anew, at most.
const doubtEvery = time.Minute

// doubtTime asks for the control plane's time anew, as an assignment has come after its
// deadline: perhaps it is late, or that clock was set back. The hello that asks also
// has the assignment sent again, if it is expected still.
func (a *Agent) doubtTime() {
	at := a.opts.Clock()
	a.mu.Lock()
	soon := a.doubted && at < a.doubtedAt+doubtEvery
	if !soon {
		a.doubted, a.doubtedAt = true, at
	}
	a.mu.Unlock()
	if !soon {
		a.speaker.begin()
	}
}
