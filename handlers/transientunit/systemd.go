package transientunit

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// withSystemd calls f with a connection for this one call. An upgrade of systemd or of
// the message bus drops connections, so a connection must not be kept.
func withSystemd(ctx context.Context, f func(context.Context, *systemd.Conn) error) error {
	c, err := systemd.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*systemd.Timeout)
	defer cancel()
	return f(ctx, c)
}

// command is the D-Bus form of ExecStart= and ExecStopPost=.
type command struct {
	Path             string
	Argv             []string
	UncleanIsFailure bool
}

// startUnit has systemd start the command of spec. The unit's files are in dir.
func startUnit(ctx context.Context, spec Spec, dir string, grace time.Duration) error {
	var properties []dbus.Property
	for _, p := range []struct {
		name  string
		value any
	}{
		{"Description", spec.Description},
		{"CollectMode", "inactive-or-failed"}, // systemd forgets the unit when it has ended.
		{"KillMode", "control-group"},
		{"TimeoutStopUSec", uint64(grace.Microseconds())}, //nolint:gosec // never negative
		{"Environment", spec.Env},
		{"StandardOutputFile", filepath.Join(dir, "output")}, // Standard error follows it.
		{"ExecStart", []command{newCommand(spec.Argv...)}},
		{"ExecStopPost", []command{newCommand("/bin/sh", filepath.Join(dir, "record"))}},
	} {
		properties = append(properties, dbus.Property{Name: p.name, Value: godbus.MakeVariant(p.value)})
	}
	// A request that is cancelled after it was sent could start the unit unnoticed. So the
	// start always completes, and Follow then stops the unit.
	return withSystemd(context.WithoutCancel(ctx), func(ctx context.Context, c *systemd.Conn) error {
		_, err := c.StartTransientUnitContext(ctx, spec.Name+".service", "fail", properties, nil)
		return err
	})
}

// newCommand escapes the arguments, because systemd expands $VARIABLES in them.
func newCommand(argv ...string) command {
	c := command{Path: argv[0]}
	for _, arg := range argv {
		c.Argv = append(c.Argv, strings.ReplaceAll(arg, "$", "$$"))
	}
	return c
}

// unitState is the state of a unit in systemd.
type unitState struct {
	// alive reports whether the unit runs or is about to. A unit that systemd does not
	// know is not alive.
	alive  bool
	cgroup string
}

func stateOf(ctx context.Context, name string) (unitState, error) {
	var s unitState
	err := withSystemd(ctx, func(ctx context.Context, c *systemd.Conn) error {
		p, err := c.Properties(ctx, name+".service")
		state := systemd.Get[string](p, "ActiveState")
		s.alive = err == nil && (state != "inactive" && state != "failed" || p.HasJob())
		s.cgroup = systemd.Get[string](p, "ControlGroup")
		return err
	})
	return s, err
}

// stopUnit has systemd stop a unit. It does not wait for the end of the unit, and returns
// an error if systemd does not know the unit.
func stopUnit(ctx context.Context, name string) error {
	return withSystemd(ctx, func(ctx context.Context, c *systemd.Conn) error {
		_, err := c.StopUnitContext(ctx, name+".service", "replace", nil)
		return err
	})
}

// Alive returns the names of the running units that begin with a prefix.
func (*Runner) Alive(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := withSystemd(ctx, func(ctx context.Context, c *systemd.Conn) error {
		units, err := c.ListUnitsByPatternsContext(ctx, []string{"active", "activating", "deactivating"}, []string{prefix + "*.service"})
		for _, u := range units {
			names = append(names, strings.TrimSuffix(u.Name, ".service"))
		}
		return err
	})
	return names, err
}

// hasProcesses reports whether a cgroup or a cgroup below it has a process. systemd mounts
// its hierarchy at one of three places: cgroup v2 alone, beside v1, or v1 alone.
func hasProcesses(cgroup string) bool {
	if cgroup == "" || cgroup == "/" {
		return false
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		found := false
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil // The cgroup was removed, so it has no processes.
			}
			if e.Name() == "cgroup.procs" {
				b, err := os.ReadFile(path)
				found = found || err == nil && len(b) > 0
			}
			return nil
		})
		if found {
			return true
		}
	}
	return false
}
