package deadline

import (
	"sync"
	"time"
)

// excuse is the time after an outage in which tasks that were created before its end are
// not expired, because reports on them may still be waiting.
type excuse struct {
	grace     time.Duration
	isDrained func() bool

	mu     sync.Mutex
	active bool
	// outageEnd is the end of the outage by the database's clock, graceEnd the end of
	// the grace by this process's. Both are zero until the outage has ended.
	outageEnd, graceEnd time.Time
}

// restart begins the excuse with an outage.
func (e *excuse) restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active, e.outageEnd, e.graceEnd = true, time.Time{}, time.Time{}
}

// createdAfter returns the time up to which tasks that were created are excused; zero
// excuses none. now is the database's clock, read after the last known outage.
func (e *excuse) createdAfter(now time.Time) time.Time {
	isDrained := e.isDrained()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.active:
	case e.outageEnd.IsZero():
		e.outageEnd, e.graceEnd = now, time.Now().Add(e.grace)
	case !time.Now().Before(e.graceEnd) && isDrained:
		e.active, e.outageEnd = false, time.Time{}
	}
	return e.outageEnd
}
