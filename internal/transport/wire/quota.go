package wire

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The reports that one endpoint may send, for a time ten times as many reports and four
// times as many bytes. An agent sends one report a second for each running assignment, and
// one for each that ends.
const (
	ReportsPerSecond = 2000
	BytesPerSecond   = 8 << 20
	reportsAtOnce    = 10 * ReportsPerSecond
	bytesAtOnce      = 4 * BytesPerSecond
)

// RefusedReport is how many reports a refused one counts as. Agents send none.
const RefusedReport = 100

// quotaMemory is how long the quota of an endpoint that sends nothing is kept. After that
// it is complete again.
const quotaMemory = time.Minute

// Quota limits the rate of the reports of each endpoint, so that one agent does not delay
// the reports of the others. It is safe for concurrent use.
type Quota struct {
	clock func() time.Time

	mu        sync.Mutex
	endpoints map[string]*allowance
	removedAt time.Time
}

// allowance is what one endpoint may send.
type allowance struct {
	reports, bytes *rate.Limiter
	usedAt         time.Time
}

// NewQuota returns a Quota. A nil clock means time.Now.
func NewQuota(clock func() time.Time) *Quota {
	if clock == nil {
		clock = time.Now
	}
	return &Quota{clock: clock, endpoints: map[string]*allowance{}, removedAt: clock()}
}

// Take takes reports of a total size from the quota of an endpoint. It reports whether the
// quota had as many.
func (q *Quota) Take(endpoint string, reports, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	q.removeUnusedLocked(now)
	a := q.endpoints[endpoint]
	if a == nil {
		a = &allowance{reports: rate.NewLimiter(ReportsPerSecond, reportsAtOnce), bytes: rate.NewLimiter(BytesPerSecond, bytesAtOnce)}
		q.endpoints[endpoint] = a
	}
	a.usedAt = now
	hasReports, hasBytes := a.reports.AllowN(now, reports), a.bytes.AllowN(now, bytes)
	return hasReports && hasBytes
}

// removeUnusedLocked removes complete quotas from time to time. It must be called with mu
// held.
func (q *Quota) removeUnusedLocked(now time.Time) {
	if now.Sub(q.removedAt) < quotaMemory {
		return
	}
	q.removedAt = now
	for name, a := range q.endpoints {
		if now.Sub(a.usedAt) >= quotaMemory {
			delete(q.endpoints, name)
		}
	}
}
