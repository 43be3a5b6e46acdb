package rollout

import (
	"context"
	"sync"

	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// gateCheck is one evaluation of a rollout's gate.
type gateCheck struct {
	// version is that of the task when the check started.
	version int64
	cancel  context.CancelFunc
	// result is nil until the check has finished.
	result *decision.GateResult
}

// resultAt returns the result for the task at this version, or nil if there is none. If
// the task has changed since the check started, for example was paused and resumed, the
// result is void.
func (c *gateCheck) resultAt(version int64) *decision.GateResult {
	if c == nil || c.version != version {
		return nil
	}
	return c.result
}

// gateChecks runs the checks of gates beside the engine, so that a slow gate delays no
// other rollout.
type gateChecks struct {
	gates Gates
	// done is called when a check has finished.
	done    func()
	running sync.WaitGroup

	mu sync.Mutex
	// byTask holds the checks until their results are taken.
	byTask map[string]*gateCheck
}

// start starts a check of the gate of a task, unless one for this version exists.
func (g *gateChecks) start(ctx context.Context, task string, gating store.Gating) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.byTask[task]; c != nil {
		if c.version == gating.Version {
			return
		}
		c.cancel() // its result would be void
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &gateCheck{version: gating.Version, cancel: cancel}
	g.byTask[task] = c
	g.running.Go(func() {
		defer cancel()
		passes, reason, err := g.gates.Check(ctx, gating.Gate, gating.Endpoints)
		g.finish(task, c, decision.GateResult{Passes: passes, Reason: reason}, err)
	})
}

// finish keeps the result of a check, unless another check has replaced it.
func (g *gateChecks) finish(task string, c *gateCheck, result decision.GateResult, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.byTask[task] != c:
	case err != nil: // Run ends
		delete(g.byTask, task)
	default:
		c.result = &result
		g.done()
	}
}

// finished returns the tasks whose checks have finished.
func (g *gateChecks) finished() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var tasks []string
	for task, c := range g.byTask {
		if c.result != nil {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

// take removes and returns the finished check of a task, or returns nil.
func (g *gateChecks) take(task string) *gateCheck {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.byTask[task]
	if c == nil || c.result == nil {
		return nil
	}
	delete(g.byTask, task)
	return c
}
