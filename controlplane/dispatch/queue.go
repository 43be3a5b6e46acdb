package dispatch

import (
	"sync"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// maxQueued bounds the orders that wait in memory; others wait in the outbox.
const maxQueued = 20_000

// queue holds claims of new tasks that wait to be sent. The zero value is closed.
type queue struct {
	mu     sync.Mutex
	isOpen bool
	claims []store.Claim
}

func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.isOpen = true
}

// hasRoom reports whether this many orders should be added. add accepts more.
func (q *queue) hasRoom(orders int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.isOpen && len(q.claims)+orders <= maxQueued
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.claims)
}

func (q *queue) add(claims []store.Claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claims = append(q.claims, claims...)
}

// remove removes and returns up to n claims, oldest first.
func (q *queue) remove(n int) []store.Claim {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.claims))
	removed := q.claims[:n:n]
	if q.claims = q.claims[n:]; len(q.claims) == 0 {
		q.claims = nil // frees the array
	}
	return removed
}

// close removes and returns all claims.
func (q *queue) close() []store.Claim {
	q.mu.Lock()
	defer q.mu.Unlock()
	claims := q.claims
	q.isOpen, q.claims = false, nil
	return claims
}
