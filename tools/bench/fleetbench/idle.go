package fleetbench

import (
	"context"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Idle is what a connected fleet costs while there is nothing to do.
type Idle struct {
	Seconds float64 `json:"seconds"`
	// CPUPercent is how much of one processor each part used.
	CPUPercent map[string]float64 `json:"cpu_percent"`
	// Memory is by how many bytes each part has grown for each agent.
	Memory map[string]int64 `json:"memory_per_endpoint_bytes"`
}

// settle is how long after the last agent has connected the idle time begins:
// agents hear of the interval of their heartbeats with the first one.
const settle = 15 * time.Second

// idle watches the fleet do nothing for a while; empty is what was used without it.
func idle(ctx context.Context, o Options, m *meter, empty usage) (*Idle, error) {
	if err := backoff.Sleep(ctx, settle); err != nil {
		return nil, err
	}
	before := m.read(ctx)
	if err := backoff.Sleep(ctx, o.Idle); err != nil {
		return nil, err
	}
	after := m.read(ctx)
	r := &Idle{Seconds: o.Idle.Seconds(), CPUPercent: map[string]float64{}, Memory: perEndpoint(empty, after, o.Endpoints)}
	for part, used := range after.since(before) {
		r.CPUPercent[part] = 100 * used.CPUSeconds / r.Seconds
	}
	return r, nil
}
