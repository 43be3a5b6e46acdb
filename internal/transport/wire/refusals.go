package wire

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// refusalInterval is the shortest time between two log lines about an endpoint.
	refusalInterval = time.Minute
	// maxRefusing is how many endpoints have log lines of their own.
	maxRefusing = 1000
)

// Refusals logs refused reports: for each endpoint one line a minute, with the number of
// reports that were refused without a line since the previous one. It is safe for
// concurrent use.
type Refusals struct {
	log   *slog.Logger
	clock func() time.Time

	mu        sync.Mutex
	endpoints map[string]*refusing
}

// refusing is an endpoint with refused reports.
type refusing struct {
	logged  time.Time
	further int
}

// NewRefusals returns Refusals that write to log. A nil clock means time.Now.
func NewRefusals(log *slog.Logger, clock func() time.Time) *Refusals {
	if clock == nil {
		clock = time.Now
	}
	return &Refusals{log: log, clock: clock, endpoints: map[string]*refusing{}}
}

// Add counts a refused report and logs it unless the endpoint was logged a moment ago.
func (r *Refusals) Add(endpoint string, err error, attrs ...any) {
	further, due := r.count(endpoint)
	if !due {
		return
	}
	attrs = append([]any{"endpoint", endpoint, "reason", RefusalReason(err), "error", err, "further_since_last", further}, attrs...)
	r.log.Log(context.Background(), slog.LevelWarn, "report refused; further ones of this endpoint are counted and logged once a minute", attrs...)
}

// count reports whether a line about the endpoint is due, and how many reports were refused
// since the previous one.
func (r *Refusals) count(endpoint string) (further int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	e := r.endpoints[endpoint]
	if e == nil {
		r.removeOldLocked(now)
		if len(r.endpoints) >= maxRefusing {
			endpoint = "" // all further endpoints share lines
		}
		if e = r.endpoints[endpoint]; e == nil {
			r.endpoints[endpoint] = &refusing{logged: now}
			return 0, true
		}
	}
	if now.Sub(e.logged) < refusalInterval {
		e.further++
		return 0, false
	}
	further, e.further, e.logged = e.further, 0, now
	return further, true
}

// removeOldLocked makes room for a new endpoint. It must be called with mu held.
func (r *Refusals) removeOldLocked(now time.Time) {
	if len(r.endpoints) < maxRefusing {
		return
	}
	for name, e := range r.endpoints {
		if now.Sub(e.logged) >= refusalInterval {
			delete(r.endpoints, name)
		}
	}
}
