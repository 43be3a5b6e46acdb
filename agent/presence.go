package agent

import (
	"github.com/shirou/gopsutil/v4/load"

	"github.com/MatthiasWiesner/tasker"
)

// presence is what the agent says of itself, as of now.
func (a *Agent) presence() tasker.Presence {
	n := a.count()
	p := tasker.Presence{
		Version: a.opts.Version, Labels: a.opts.Labels,
		Handlers: a.opts.Handlers.Names(), Scripts: a.opts.Handlers.Scripts(),
		Metrics: a.opts.MetricsAddress, Running: n.running, Waiting: n.waiting,
		Heartbeat: a.speaker.interval(),
	}
	if avg, err := load.Avg(); err == nil {
		p.Load = avg.Load1
	}
	return p
}
