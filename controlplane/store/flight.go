package store

import (
	"context"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// flights are the orders that this process has claimed and not settled yet. What
// an agent has reported on needs no mark any more that it was sent, so the marks
// wait for that a little: most orders are answered at once, and then their rows
// are written once and not twice.
type flights struct {
	// patience is for how long marks wait while nothing is reported on. Under load
	// reports come late, and marks would make them come later still: as long as
	// some come, the marks wait up to longest times as long.
	patience time.Duration

	mu sync.Mutex
	// news is when something was reported on last.
	news time.Time
	// open holds what is closed when the order is reported on.
	open map[flight]chan struct{}
}

const longest = 8

// flight is one assignment on its way to one endpoint.
type flight struct {
	responseKey
	attempt int
}

func (c Claim) flight() flight { return flight{c.key(), c.Attempt} }

// waits says whether the mark of a claim may wait: that of an assignment to one
// endpoint, unless its deadline is so close that it might pass meanwhile.
func (f *flights) waits(c Claim) bool {
	soon := c.heldUntil.Add(2*longest*f.patience - ClaimHold)
	a := c.Order.Assignment
	return f.patience > 0 && c.Endpoint != "" && a != nil && sqldb.MicrosOf(a.Deadline) > soon
}

// begin is told what was claimed, before it can have been sent.
func (f *flights) begin(claims []Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		if f.waits(c) {
			f.open[c.flight()] = make(chan struct{})
		}
	}
}

// reported is told responses as they are stored now.
func (f *flights) reported(rows map[responseKey]*responseRow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, r := range rows {
		done := f.open[flight{k, r.Attempt}]
		if done == nil || r.Status.Rank() < tasker.Received.Rank() {
			continue
		}
		select {
		case <-done:
		default:
			close(done)
			f.news = time.Now()
		}
	}
}

// end waits until claims were reported on, but not longer than is of use, and
// returns those that were not.
func (f *flights) end(ctx context.Context, claims []Claim) []Claim {
	defer f.forget(claims)
	began := time.Now()
	timer := time.NewTimer(f.patience)
	defer timer.Stop()
	var late []Claim
	over := ctx.Err() != nil
	for i, done := range f.doneOf(claims) {
		for reported := false; !reported && !over; {
			select {
			case <-done:
				reported = true
			case <-timer.C:
				left := f.left(began)
				over = left <= 0
				timer.Reset(left)
			case <-ctx.Done():
				over = true
			}
		}
		select {
		case <-done:
		default:
			late = append(late, claims[i])
		}
	}
	return late
}

// left is for how long marks still wait that have waited since began.
func (f *flights) left(began time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(time.Until(f.news.Add(f.patience)), time.Until(began.Add(longest*f.patience)))
}

func (f *flights) doneOf(claims []Claim) []chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := make([]chan struct{}, len(claims))
	for i, c := range claims {
		done[i] = f.open[c.flight()]
	}
	return done
}

func (f *flights) forget(claims []Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		if !c.Cancel {
			delete(f.open, c.flight())
		}
	}
}
