package agent

import (
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

const (
	// progressInterval is the shortest time between two reports of the progress and
	// output of an assignment.
	progressInterval = time.Second
	// soonDelay is how long a change of status waits to be reported. If the assignment
	// ends meanwhile, one report covers both.
	soonDelay = 50 * time.Millisecond
	// never is longer than an agent runs.
	never = 365 * 24 * time.Hour
)

// reportQueue holds the assignments whose state is to be reported, until the reporter
// takes them.
type reportQueue struct {
	// wake wakes up the reporter.
	wake chan struct{}

	mu sync.Mutex
	// due is to be reported at once, soon after soonDelay, and progress after
	// progressInterval.
	due, soon, progress []*assignment
	soonAt, progressAt  time.Time
	// failures counts the batches that failed in a row. Until retryAt none is sent.
	failures int
	retryAt  time.Time
}

func newReportQueue() *reportQueue { return &reportQueue{wake: make(chan struct{}, 1)} }

func (q *reportQueue) wakeReporter() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// add has the state of assignments reported at once.
func (q *reportQueue) add(assignments ...*assignment) {
	if len(assignments) == 0 {
		return
	}
	q.mu.Lock()
	for _, a := range assignments {
		q.addLocked(a)
	}
	q.mu.Unlock()
	q.wakeReporter()
}

func (q *reportQueue) addLocked(a *assignment) {
	a.soonListed = false
	a.progressListed.Store(false)
	if !a.dueListed {
		a.dueListed = true
		q.due = append(q.due, a)
	}
}

// addSoon has the state of assignments reported after soonDelay, unless add is called
// before.
func (q *reportQueue) addSoon(assignments ...*assignment) {
	if len(assignments) == 0 {
		return
	}
	q.mu.Lock()
	first := len(q.soon) == 0
	if first {
		q.soonAt = time.Now().Add(soonDelay)
	}
	for _, a := range assignments {
		if !a.soonListed && !a.dueListed {
			a.soonListed = true
			q.soon = append(q.soon, a)
		}
	}
	q.mu.Unlock()
	if first {
		q.wakeReporter()
	}
}

// addProgress has the progress and the output of an assignment reported within
// progressInterval. It may be called at any rate.
func (q *reportQueue) addProgress(a *assignment) {
	if !a.progressListed.CompareAndSwap(false, true) {
		return
	}
	q.mu.Lock()
	q.progress = append(q.progress, a)
	first := len(q.progress) == 1
	if first {
		q.progressAt = time.Now().Add(progressInterval)
	}
	q.mu.Unlock()
	if first {
		q.wakeReporter()
	}
}

// take removes and returns up to maxBatch assignments that are to be reported now.
func (q *reportQueue) take(now time.Time) []*assignment {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.retryAt) {
		return nil
	}
	if !now.Before(q.progressAt) {
		for _, a := range q.progress {
			if a.progressListed.Load() {
				q.addLocked(a)
			}
		}
		q.progress = nil
	}
	if !now.Before(q.soonAt) {
		for _, a := range q.soon {
			if a.soonListed {
				q.addLocked(a)
			}
		}
		q.soon = nil
	}
	n := min(len(q.due), maxBatch)
	taken := q.due[:n:n]
	q.due = q.due[n:]
	for _, a := range taken {
		a.dueListed = false
	}
	return taken
}

// next returns when take returns something.
func (q *reportQueue) next() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := time.Now().Add(never)
	consider := func(list []*assignment, at time.Time) {
		if at.Before(q.retryAt) {
			at = q.retryAt
		}
		if len(list) > 0 && at.Before(next) {
			next = at
		}
	}
	consider(q.due, q.retryAt)
	consider(q.soon, q.soonAt)
	consider(q.progress, q.progressAt)
	return next
}

// recordResult records whether a batch was sent; a failure delays the next batch. It
// returns how many batches had failed in a row before.
func (q *reportQueue) recordResult(sent bool) (failures int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	failures = q.failures
	if sent {
		q.failures = 0
		return failures
	}
	q.failures++
	q.retryAt = time.Now().Add(resendDelay(failures))
	return failures
}

// skipBackOff lets the next batch be sent at once.
func (q *reportQueue) skipBackOff() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retryAt = time.Time{}
}

// skipDelays lets all that is queued be sent at once.
func (q *reportQueue) skipDelays() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retryAt, q.soonAt, q.progressAt = time.Time{}, time.Time{}, time.Time{}
}

// pending returns how many assignments are due, and how many batches failed in a row.
func (q *reportQueue) pending() (due, failures int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.due), q.failures
}

// resendDelay is how long a report waits after a failed attempt to send it.
func resendDelay(failures int) time.Duration {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 30 * time.Second}.Wait(failures)
}
