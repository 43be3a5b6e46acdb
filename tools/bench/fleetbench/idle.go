package fleetbench

import (
	"context"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Idle is the cost of a connected fleet without tasks.
type Idle struct {
	Seconds float64 `json:"seconds"`
	// CPUPercent is the share of one processor that each part used.
	CPUPercent map[string]float64 `json:"cpu_percent"`
	// Memory is the growth of each part per agent, in bytes.
	Memory map[string]int64 `json:"memory_per_endpoint_bytes"`
}

// settleTime is the time between the connection of the last agent and the measurement:
// agents learn the interval of their heartbeats with the first one.
const settleTime = 15 * time.Second

// measureIdle measures the idle fleet; empty is the usage without a fleet.
func measureIdle(ctx context.Context, o Options, m *meter, empty usage) (*Idle, error) {
	if err := backoff.Sleep(ctx, settleTime); err != nil {
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
