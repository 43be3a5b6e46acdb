package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// inFlight tracks the assignments that are being sent or were sent, until they are
// recorded as sent. A response that its agent has reported on needs no such record, so
// the recorder waits a little for reports: most assignments are reported on at once, and
// then their rows are written once instead of twice.
type inFlight struct {
	// reportWait is how long an assignment waits while no report arrives. Under load
	// reports arrive late, and further writes would delay them: as long as some arrive,
	// it waits up to maxReportWaits times as long.
	reportWait time.Duration

	mu         sync.Mutex
	lastReport time.Time
	// attempts holds a channel for each attempt, which is closed by its first report.
	attempts map[store.AttemptKey]chan struct{}
}

const maxReportWaits = 8

func newInFlight(reportWait time.Duration) *inFlight {
	return &inFlight{reportWait: reportWait, attempts: map[store.AttemptKey]chan struct{}{}}
}

// canWait reports whether the record of a claim may wait for a report: that of an
// assignment to one endpoint whose deadline is not close.
func (f *inFlight) canWait(c store.Claim) bool {
	return f.reportWait > 0 && c.Endpoint != "" && c.Order.Assignment != nil &&
		time.Until(c.Order.Expires) > 2*maxReportWaits*f.reportWait
}

// add must be called before the orders are sent.
func (f *inFlight) add(claims []store.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		if f.canWait(c) {
			f.attempts[c.AttemptKey] = make(chan struct{})
		}
	}
}

func (f *inFlight) remove(c store.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !c.Cancel {
		delete(f.attempts, c.AttemptKey)
	}
}

// split separates the claims that are tracked from the others.
func (f *inFlight) split(claims []store.Claim) (tracked, untracked []store.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		if f.attempts[c.AttemptKey] != nil && !c.Cancel {
			tracked = append(tracked, c)
		} else {
			untracked = append(untracked, c)
		}
	}
	return tracked, untracked
}

func (f *inFlight) reported(attempts []store.AttemptKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range attempts {
		if reported := f.attempts[key]; reported != nil && !isClosed(reported) {
			close(reported)
			f.lastReport = time.Now()
		}
	}
}

// awaitReports waits for reports on the claims, and returns the claims without one.
func (f *inFlight) awaitReports(ctx context.Context, claims []store.Claim) (unreported []store.Claim) {
	began := time.Now()
	timer := time.NewTimer(f.reportWait)
	defer timer.Stop()
	expired := ctx.Err() != nil
	for _, c := range claims {
		reported := f.attempt(c)
		for !expired && !isClosed(reported) {
			select {
			case <-reported:
			case <-timer.C:
				remaining := f.remainingWait(began)
				expired = remaining <= 0
				timer.Reset(remaining)
			case <-ctx.Done():
				expired = true
			}
		}
		if !isClosed(reported) {
			unreported = append(unreported, c)
		}
		f.remove(c)
	}
	return unreported
}

// remainingWait returns how long assignments still wait that have waited since began.
func (f *inFlight) remainingWait(began time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(time.Until(f.lastReport.Add(f.reportWait)), time.Until(began.Add(maxReportWaits*f.reportWait)))
}

func (f *inFlight) attempt(c store.Claim) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts[c.AttemptKey]
}

func isClosed(reported <-chan struct{}) bool {
	select {
	case <-reported:
		return true
	default:
		return false
	}
}
