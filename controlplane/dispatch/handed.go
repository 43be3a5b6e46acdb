package dispatch

import (
	"sync"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// mostHanded is how many orders may wait to be sent in memory; others wait in the
// outbox.
const mostHanded = 20_000

// handed are the claims that wait to be sent. Its zero value is closed.
type handed struct {
	mu     sync.Mutex
	opened bool
	claims []store.Claim
}

func (h *handed) open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = true
}

// takes says whether there is room. What comes after all is not refused.
func (h *handed) takes(orders int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened && len(h.claims)+orders <= mostHanded
}

func (h *handed) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.claims)
}

func (h *handed) add(claims []store.Claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, claims...)
}

// take removes up to n claims, those first that came first.
func (h *handed) take(n int) []store.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	n = min(n, len(h.claims))
	taken := h.claims[:n:n]
	if h.claims = h.claims[n:]; len(h.claims) == 0 {
		h.claims = nil // and with it the array
	}
	return taken
}

// close removes all that wait.
func (h *handed) close() []store.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.claims
	h.opened, h.claims = false, nil
	return left
}

// giveBack makes claims due at once, for whoever looks.
func giveBack(claims []store.Claim) []store.Unsent {
	unsent := make([]store.Unsent, len(claims))
	for i, c := range claims {
		unsent[i] = store.Unsent{Claim: c}
	}
	return unsent
}
