package service

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// DefaultSettle is a good Manager.Settle for most units.
const DefaultSettle = 2 * time.Second

// Manager has systemd start, stop, restart and reload units, and waits for what
// becomes of them. Its methods may be called concurrently; units are named with
// their suffix, like nginx.service.
//
// An error is a *FailedError if the unit did not become what it should. When ctx is
// done, the error wraps context.Cause(ctx), and systemd goes on with what it was
// asked to do.
type Manager struct {
	// Settle is how long a unit that has become active must stay so. It finds the
	// programs that end right after their start.
	Settle time.Duration
}

// Start starts a unit and returns when it is active, or when a Type=oneshot one has
// ended well. Starting what is active changes nothing.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.run(ctx, start, unit)
}

// Restart is Start, but an active unit is stopped before. It starts a unit, too,
// that systemd has given up since it has failed too often.
func (m *Manager) Restart(ctx context.Context, unit string) error {
	return m.run(ctx, restart, unit)
}

// Active says whether a unit is active now, or reloading.
func (m *Manager) Active(ctx context.Context, unit string) (bool, error) {
	s, err := m.State(ctx, unit)
	return s.active(), err
}

// State says how a unit is. One that systemd does not know is an error.
func (m *Manager) State(ctx context.Context, unit string) (State, error) {
	c, err := connect(ctx)
	if err != nil {
		return State{}, err
	}
	defer c.close()
	s, err := c.show(ctx, unit)
	if err == nil && s.load != "loaded" {
		err = fmt.Errorf("the unit %s cannot be used: %s", unit, s.unusable())
	}
	return s.State, err
}

func (m *Manager) run(ctx context.Context, v verb, unit string) error {
	c, err := connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	s, err := c.show(ctx, unit)
	if err != nil {
		return err
	}
	if s.load != "loaded" {
		return fmt.Errorf("the unit %s cannot be %s: %s", unit, v.done(), s.unusable())
	}
	return c.change(ctx, v, unit, s, m.Settle)
}

// verb is what is done with a unit.
type verb string

const (
	start   verb = "start"
	stop    verb = "stop"
	restart verb = "restart"
	reload  verb = "reload"
	enable  verb = "enable"
	disable verb = "disable"
	status  verb = "status"
)

// done is the word for what is done: started.
func (v verb) done() string {
	switch v {
	case stop:
		return "stopped"
	case enable, disable:
		return string(v) + "d"
	}
	return string(v) + "ed"
}

// change asks systemd to start, stop, restart or reload a unit, and waits for what
// becomes of it; before is how it is.
func (c *conn) change(ctx context.Context, v verb, unit string, before unitState, settle time.Duration) error {
	if err := c.refresh(ctx, unit, before); err != nil {
		return err
	}
	if v == start || v == restart {
		// It is asked for by somebody who knows that it has failed before: the limit of
		// starts is not for that. systemd refuses where there is nothing to reset.
		_ = c.ResetFailedUnitContext(ctx, unit)
	}
	w := watch{conn: c, verb: v, unit: unit, settle: settle, since: time.Now(), ended: make(chan string, 1)}
	jobs := map[verb]func(context.Context, string, string, chan<- string) (int, error){
		start: c.StartUnitContext, stop: c.StopUnitContext, restart: c.RestartUnitContext, reload: c.ReloadUnitContext,
	}
	if _, err := jobs[v](ctx, unit, "replace", w.ended); err != nil {
		return fmt.Errorf("%s %s: %w", v, unit, err)
	}
	return w.wait(ctx)
}

// refresh has systemd read the files of units again where that of this one has
// changed: it would go on with what it was.
func (c *conn) refresh(ctx context.Context, unit string, s unitState) error {
	if !s.outdated {
		return nil
	}
	if err := c.ReloadContext(ctx); err != nil {
		return fmt.Errorf("have systemd read the changed file of %s: %w", unit, err)
	}
	return nil
}

// conn is a connection to systemd.
type conn struct {
	*dbus.Conn
	cancel context.CancelFunc
}

// patience is how long systemd has to answer.
const patience = 10 * time.Second

// connect connects to systemd for longer than ctx lasts: what becomes of a unit is
// to be told also when ctx is done.
func connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(patience, cancel)
	defer timer.Stop()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to systemd over D-Bus: %w", err)
	}
	return &conn{Conn: c, cancel: cancel}, nil
}

func (c *conn) close() {
	c.Close()
	c.cancel()
}
