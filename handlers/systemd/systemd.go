// Package systemd connects handlers to systemd over D-Bus, to start, stop and inspect
// units. The handler service and the package transientunit use it.
package systemd

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Timeout is the time that systemd has to accept a connection or to execute a simple call.
const Timeout = 10 * time.Second

// Running reports whether systemd is the service manager of this server, in the same way
// as sd_booted(3).
func Running() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil
}

// Conn is a connection to systemd: over the system bus or, for root on a server without
// one, over systemd's private socket.
type Conn struct {
	*dbus.Conn
	cancel context.CancelFunc
}

// Connect connects to systemd. The connection outlives ctx, because callers also report
// the state of a unit after their ctx is done.
func Connect(ctx context.Context) (*Conn, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(Timeout, cancel)
	defer timer.Stop()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to systemd over D-Bus: %w", err)
	}
	return &Conn{Conn: c, cancel: cancel}, nil
}

// Close closes the connection.
func (c *Conn) Close() {
	c.Conn.Close()
	c.cancel()
}

// Properties are the D-Bus properties of a unit.
type Properties map[string]any

// Properties returns the properties of a unit. A unit that systemd does not know is
// inactive, and its LoadState is not-found.
func (c *Conn) Properties(ctx context.Context, unit string) (Properties, error) {
	// systemd delays all replies while it reloads the files of all units.
	ctx, cancel := context.WithTimeout(ctx, 3*Timeout)
	defer cancel()
	p, err := c.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return nil, fmt.Errorf("get the state of %s from systemd: %w", unit, err)
	}
	return p, nil
}

// HasJob reports whether systemd has a job for the unit that is queued or runs.
func (p Properties) HasJob() bool {
	job := Get[[]any](p, "Job")
	if len(job) == 0 {
		return false
	}
	id, _ := job[0].(uint32)
	return id != 0
}

// Get returns a property, or the zero value if the unit has no property of that name and
// type.
func Get[T any](p Properties, name string) T {
	v, _ := p[name].(T)
	return v
}
