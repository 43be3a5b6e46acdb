package service

import (
	"context"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// DefaultSettle is the default of Manager.Settle. It suits most units.
const DefaultSettle = 2 * time.Second

// Manager starts, stops and restarts units, and waits for the outcome. Its methods may be
// called concurrently. The name of a unit includes its suffix, like nginx.service.
//
// The error is a *FailedError if the unit did not reach the wanted state. When ctx is done,
// the error wraps context.Cause(ctx), and systemd continues with the job.
type Manager struct {
	// Settle is the time for which a started unit must stay active. It detects programs
	// that end right after their start.
	Settle time.Duration
}

// Start starts a unit and returns when the unit is active or, with Type=oneshot, has
// succeeded. An active unit is left alone.
func (m *Manager) Start(ctx context.Context, unit string) error { return m.run(ctx, start, unit) }

// Stop stops a unit and returns when it is inactive.
func (m *Manager) Stop(ctx context.Context, unit string) error { return m.run(ctx, stop, unit) }

// Restart stops a unit if it is active, and then acts like Start. It also starts a unit that
// systemd no longer restarts because it has failed too often.
func (m *Manager) Restart(ctx context.Context, unit string) error { return m.run(ctx, restart, unit) }

// State returns the state of a unit. It returns an error for a unit that is not loaded.
func (m *Manager) State(ctx context.Context, unit string) (State, error) {
	c, err := systemd.Connect(ctx)
	if err != nil {
		return State{}, err
	}
	defer c.Close()
	s, err := stateOf(ctx, c, unit)
	if err == nil && s.load != "loaded" {
		err = fmt.Errorf("the unit %s cannot be used: %s", unit, s.loadProblem())
	}
	return s.State, err
}

// CheckLoaded returns an error for a unit that cannot be started, such as a masked one.
func (m *Manager) CheckLoaded(ctx context.Context, unit string) error {
	_, err := m.State(ctx, unit)
	return err
}

// Journal returns the last lines of a unit's journal since a time. If the journal cannot
// be read, it returns the reason instead.
func (m *Manager) Journal(ctx context.Context, unit string, since time.Time) []string {
	return journal(ctx, unit, since)
}

func (m *Manager) run(ctx context.Context, v verb, unit string) error {
	c, err := systemd.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := stateOf(ctx, c, unit)
	if err != nil {
		return err
	}
	if s.load != "loaded" {
		return fmt.Errorf("the unit %s cannot be %s: %s", unit, v.participle(), s.loadProblem())
	}
	return apply(ctx, c, v, unit, s, m.Settle)
}

// apply starts, stops, restarts or reloads a unit in the given state and waits for the
// outcome.
func apply(ctx context.Context, c *systemd.Conn, v verb, unit string, before unitState, settle time.Duration) error {
	if before.needsDaemonReload {
		// systemd would use the old contents of the unit's file.
		if err := c.ReloadContext(ctx); err != nil {
			return fmt.Errorf("reload systemd for the changed file of %s: %w", unit, err)
		}
	}
	if v == start || v == restart {
		// The limit of starts is for automatic restarts only. systemd returns an error if
		// there is nothing to reset.
		_ = c.ResetFailedUnitContext(ctx, unit)
	}
	w := waiter{conn: c, verb: v, unit: unit, settle: settle, since: time.Now(), jobResults: make(chan string, 1)}
	request := c.StartUnitContext
	switch v {
	case stop:
		request = c.StopUnitContext
	case restart:
		request = c.RestartUnitContext
	case reload:
		request = c.ReloadUnitContext
	}
	if _, err := request(ctx, unit, "replace", w.jobResults); err != nil {
		return fmt.Errorf("%s %s: %w", v, unit, err)
	}
	return w.wait(ctx)
}
