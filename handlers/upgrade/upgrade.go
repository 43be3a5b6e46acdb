package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	packages "github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

// Name is the handler's name.
const Name = "upgrade-agent"

// Options are what the agent decides.
type Options struct {
	// Dir is where is kept what must outlive the agent.
	Dir string
	// Grace is the time between SIGTERM and SIGKILL; zero is
	// handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is mandatory where Handle is called.
	Log *slog.Logger
}

// Payload is what a task asks for: a version, a package's file, or, with neither,
// the newest version there is.
type Payload struct {
	Version string `json:"version,omitempty"`
	File    string `json:"file,omitempty"`
}

// Outcome is the result's value: the versions before and after.
type Outcome struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:     Name,
		Summary:  "Upgrades the agent itself, with the package manager of the server.",
		Restart:  handlers.RestartResume,
		Detached: true,
		Schema: []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "a version, a file, or neither for the newest version that the server's repositories have",
  "type": "object",
  "properties": {
    "version": {
      "description": "the version to install, an older one too, as 1.2.3 or as the package has it, 1.2.3-1",
      "type": "string", "pattern": "^[0-9][0-9A-Za-z.+~:]*(-[0-9A-Za-z.+~]+)?$", "maxLength": 100
    },
    "file": {
      "description": "a .deb or .rpm on the server, by its absolute path, to install instead",
      "type": "string", "pattern": "^/.*\\.(deb|rpm)$", "maxLength": 4096
    }
  },
  "maxProperties": 1,
  "additionalProperties": false
}`),
	}
}

// New makes the handler.
func New(o Options) handlers.Handler {
	u := &upgrader{
		units: &transientunit.Runner{Dir: o.Dir, Grace: o.Grace, Log: o.Log},
		turn:  make(chan struct{}, 1),
	}
	return handlers.Typed(Info(), u.handle)
}

type upgrader struct {
	units *transientunit.Runner
	// turn has room for the one upgrade that may start.
	turn chan struct{}
}

// unitPrefix begins the names of the units of all upgrades.
const unitPrefix = "tasker-" + Name + "-"

// note is what the next agent process has to know of an upgrade.
type note struct {
	Manager string `json:"manager"`
	Package string `json:"package"`
	From    string `json:"from"`
}

func (u *upgrader) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	if err := transientunit.Available(); err != nil {
		return handlers.Result{}, handlers.Reject("the agent cannot upgrade itself: %v", err)
	}
	unit := fmt.Sprintf("%s%s-%d", unitPrefix, call.TaskID, call.Attempt)
	// What an earlier process has started is looked for even if ctx is done, since
	// then it has to be stopped.
	kept, started, err := u.units.Find(context.WithoutCancel(ctx), unit)
	if err != nil {
		return handlers.Result{}, err
	}
	if started {
		return u.follow(ctx, unit, kept, p, call)
	}
	if ctx.Err() != nil {
		return handlers.Result{}, context.Cause(ctx)
	}
	m, err := find(ctx)
	if err != nil {
		return handlers.Result{}, err
	}
	if err := m.check(ctx, p); err != nil {
		return handlers.Result{}, err
	}
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return handlers.Result{}, context.Cause(ctx)
	}
	if err := u.wait(ctx, call); err != nil {
		return handlers.Result{}, err
	}
	return u.start(ctx, m, unit, p, call)
}

// wait returns when no other upgrade runs, one that an earlier agent process has
// started included.
func (u *upgrader) wait(ctx context.Context, call handlers.Call) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		others, err := u.units.Alive(ctx, unitPrefix)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("look for other upgrades: %w", err)
		case len(others) == 0:
			return nil
		}
		call.Progress(0, "waiting for another upgrade, "+others[0])
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (u *upgrader) start(ctx context.Context, m manager, unit string, p Payload, call handlers.Call) (handlers.Result, error) {
	before, err := m.tool.Installed(ctx, m.pack)
	if err != nil {
		return handlers.Result{}, err
	}
	kept, err := json.Marshal(note{Manager: m.tool.Name, Package: m.pack, From: before.Version})
	if err != nil {
		return handlers.Result{}, fmt.Errorf("encode the note of the unit: %w", err)
	}
	call.Progress(0, "upgrading "+m.pack+" "+packages.Short(before.Version))
	err = u.units.Start(ctx, transientunit.Spec{
		Name:        unit,
		Description: fmt.Sprintf("tasker: upgrade of %s (task %s)", m.pack, call.TaskID),
		Argv:        append([]string{"/bin/sh", "-euc", script(m.tool), Name}, m.args(p)...),
		Env:         env(),
		Note:        kept,
	})
	if err != nil {
		return handlers.Result{}, err
	}
	return u.follow(ctx, unit, kept, p, call)
}

// follow waits for the end of an upgrade that was started, by this agent process
// or an earlier one, and judges it.
func (u *upgrader) follow(ctx context.Context, unit string, kept []byte, p Payload, call handlers.Call) (handlers.Result, error) {
	var n note
	if err := json.Unmarshal(kept, &n); err != nil {
		return handlers.Result{}, fmt.Errorf("read the note of the unit %s: %w", unit, err)
	}
	t, ok := packages.Named(n.Manager)
	if !ok {
		return handlers.Result{}, fmt.Errorf("the upgrade was begun with %s, which this agent does not know", n.Manager)
	}
	exit, ended := u.units.Follow(ctx, unit, call.Output, call.OutputBytes)
	if errors.Is(ended, handlers.ErrStopping) {
		return handlers.Result{}, ended
	}
	after, err := t.Installed(context.WithoutCancel(ctx), n.Package)
	if err != nil {
		return handlers.Result{}, errors.Join(ended, err)
	}
	result := handlers.Result{Value: Outcome{From: packages.Short(n.From), To: packages.Short(after.Version)}}
	if ended == nil && exit.Signal == "" {
		result.ExitCode = &exit.Code
	}
	return result, verdict{pack: n.Package, from: n.From, after: after, wanted: p.Version, exit: exit, ended: ended, outdated: outdated()}.err()
}

// verdict is what is known of an upgrade at its end.
type verdict struct {
	pack, from string
	after      packages.State
	// wanted is the version that was asked for, or empty.
	wanted string
	exit   transientunit.Exit
	ended  error
	// outdated: this process runs a program that has been replaced.
	outdated bool
}

// err is nil when the upgrade is a success.
func (v verdict) err() error {
	is := fmt.Sprintf("%s is at version %s", v.pack, packages.Short(v.after.Version))
	if !v.after.Whole {
		is += " and not completely installed (" + v.after.Says + ")"
	}
	lost := errors.Is(v.ended, transientunit.ErrLost) || v.ended == nil && v.exit.Signal != ""
	reached := v.after.Whole && (v.wanted == "" || packages.Matches(v.after.Version, v.wanted))
	switch {
	case v.ended != nil && !lost:
		// It was cancelled, or took too long.
		if v.after.Whole && v.after.Version == v.from {
			return v.ended
		}
		return fmt.Errorf("%w; %s", v.ended, is)
	case lost && reached && (v.wanted != "" || v.after.Version != v.from):
	case lost:
		reason := v.ended
		if reason == nil {
			reason = v.exit.Err()
		}
		return fmt.Errorf("the package manager was interrupted: %w; %s", reason, is)
	case v.exit.Code != 0:
		return fmt.Errorf("the package manager failed with %w; %s", v.exit.Err(), is)
	case !reached && v.wanted != "":
		return fmt.Errorf("%s, not %s", is, v.wanted)
	case !reached:
		return errors.New(is)
	}
	if v.outdated && v.after.Version != v.from {
		return fmt.Errorf("%s, but the agent was not restarted and still runs the old program; on the server: systemctl restart %s", is, v.pack)
	}
	return nil
}
