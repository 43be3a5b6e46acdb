package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// maxHeartbeatRate is how many heartbeats a second all agents together should send at
// most: in a larger fleet the interval grows. Agents send up to a tenth earlier.
const maxHeartbeatRate = 45

// heartbeatRate chooses the interval of heartbeats by the size of the fleet.
type heartbeatRate struct {
	shortest time.Duration

	mu        sync.Mutex
	connected int
	// countedAt is when connected was counted.
	countedAt sqldb.Micros
}

// interval returns the interval at which agents should send heartbeats.
func (h *heartbeatRate) interval(ctx context.Context, c *sqldb.Conn, now sqldb.Micros) (time.Duration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// The larger the fleet, the more it costs to count it, and the less it matters.
	if h.countedAt == 0 || now < h.countedAt || now >= h.countedAt.Add(h.byCount()/5) {
		n, err := countConnected(ctx, c, now)
		if err != nil {
			return 0, fmt.Errorf("count the connected endpoints: %w", err)
		}
		h.connected, h.countedAt = n, now
	}
	return h.byCount(), nil
}

func (h *heartbeatRate) byCount() time.Duration {
	return max(h.shortest, time.Duration(h.connected)*time.Second/maxHeartbeatRate)
}
