package upgrade

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

// Name is the handler's name.
const Name = "upgrade-agent"

// Options configure the handler.
type Options struct {
	// Dir is the directory for the files of transient units.
	Dir string
	// Grace is the time between SIGTERM and SIGKILL; zero is
	// handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is mandatory where Handle is called.
	Log *slog.Logger
}

// Payload is the payload of a task: a version, a package file, or neither for the newest
// version.
type Payload struct {
	Version string `json:"version,omitempty"`
	File    string `json:"file,omitempty"`
}

// Outcome is the value of the result: the versions before and after.
type Outcome struct {
	DryRun bool   `json:"plan,omitempty"`
	From   string `json:"from"`
	// To is empty in a dry run that names no version.
	To   string `json:"to"`
	Note string `json:"note,omitempty"`
}

//go:embed payload.schema.json
var payloadSchema []byte

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Upgrades the agent itself, with the package manager of the server.",
		Restart:   handlers.RestartResume,
		Detached:  true,
		Schema:    payloadSchema,
		CanDryRun: true,
	}
}

// New returns the handler.
func New(o Options) handlers.Handler {
	u := &upgrader{
		units: &transientunit.Runner{Dir: o.Dir, Grace: o.Grace, Log: o.Log},
		slot:  make(chan struct{}, 1),
	}
	return handlers.Typed(Info(), u.handle)
}

// upgrader is the handler.
type upgrader struct {
	units *transientunit.Runner
	// slot lets one upgrade at a time start.
	slot chan struct{}
}

// unitPrefix is the prefix of the unit names of all upgrades.
const unitPrefix = "tasker-" + Name + "-"

// unitNote is what the next agent process needs to know of an upgrade.
type unitNote struct {
	Manager string `json:"manager"`
	Package string `json:"package"`
	From    string `json:"from"`
}

func (u *upgrader) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	if err := transientunit.Available(); err != nil {
		return handlers.Result{}, handlers.Reject("the agent cannot upgrade itself: %v", err)
	}
	unit := fmt.Sprintf("%s%s-%d", unitPrefix, call.TaskID, call.Attempt)
	// An upgrade that an earlier agent process has started must be found even if ctx is
	// done, because then it has to be stopped.
	note, started, err := u.units.Find(context.WithoutCancel(ctx), unit)
	if err != nil {
		return handlers.Result{}, err
	}
	if started {
		return u.follow(ctx, unit, note, p, call)
	}
	if ctx.Err() != nil {
		return handlers.Result{}, context.Cause(ctx)
	}
	i, err := findInstallation(ctx)
	if err != nil {
		return handlers.Result{}, err
	}
	if err := i.check(ctx, p); err != nil {
		return handlers.Result{}, err
	}
	if call.Action == tasker.DryRun {
		return i.dryRun(ctx, p)
	}
	select {
	case u.slot <- struct{}{}:
		defer func() { <-u.slot }()
	case <-ctx.Done():
		return handlers.Result{}, context.Cause(ctx)
	}
	if err := u.waitForOthers(ctx, call); err != nil {
		return handlers.Result{}, err
	}
	return u.start(ctx, i, unit, p, call)
}

// waitForOthers waits until no other upgrade runs, not even one of an earlier agent
// process.
func (u *upgrader) waitForOthers(ctx context.Context, call handlers.Call) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		others, err := u.units.Alive(ctx, unitPrefix)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("find other upgrades: %w", err)
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

// start starts an upgrade and follows it to its end.
func (u *upgrader) start(ctx context.Context, i installation, unit string, p Payload, call handlers.Call) (handlers.Result, error) {
	before, err := i.tool.Installed(ctx, i.pkg)
	if err != nil {
		return handlers.Result{}, err
	}
	note, err := json.Marshal(unitNote{Manager: i.tool.Name, Package: i.pkg, From: before.Version})
	if err != nil {
		return handlers.Result{}, fmt.Errorf("encode the note of the unit: %w", err)
	}
	call.Progress(0, "upgrading "+i.pkg+" "+pkgmanager.Short(before.Version))
	err = u.units.Start(ctx, transientunit.Spec{
		Name:        unit,
		Description: fmt.Sprintf("tasker: upgrade of %s (task %s)", i.pkg, call.TaskID),
		Argv:        append([]string{"/bin/sh", "-euc", script(i.tool), Name}, i.scriptArgs(p)...),
		Env:         pkgmanager.Environ(),
		Note:        note,
	})
	if err != nil {
		return handlers.Result{}, err
	}
	return u.follow(ctx, unit, note, p, call)
}

// follow waits for the end of an upgrade, which an earlier agent process may have started,
// and checks its result.
func (u *upgrader) follow(ctx context.Context, unit string, encoded []byte, p Payload, call handlers.Call) (handlers.Result, error) {
	var note unitNote
	if err := json.Unmarshal(encoded, &note); err != nil {
		return handlers.Result{}, fmt.Errorf("read the note of the unit %s: %w", unit, err)
	}
	tool, ok := pkgmanager.Named(note.Manager)
	if !ok {
		return handlers.Result{}, fmt.Errorf("the upgrade was started with %s, which this agent does not know", note.Manager)
	}
	exit, followErr := u.units.Follow(ctx, unit, call.Output, call.OutputBytes)
	if errors.Is(followErr, handlers.ErrStopping) {
		return handlers.Result{}, followErr
	}
	after, err := tool.Installed(context.WithoutCancel(ctx), note.Package)
	if err != nil {
		return handlers.Result{}, errors.Join(followErr, err)
	}
	result := handlers.Result{Value: Outcome{From: pkgmanager.Short(note.From), To: pkgmanager.Short(after.Version)}}
	if followErr == nil && exit.Signal == "" {
		result.ExitCode = &exit.Code
	}
	return result, upgradeResult{pkg: note.Package, from: note.From, after: after, wanted: p.Version, exit: exit, err: followErr, replaced: isProgramReplaced()}.check()
}
