package artifact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// deployment is one call of the handler.
type deployment struct {
	*deployer
	spec
	*progress
	app *appDir
	out Outcome
}

// undoRecord is the snapshot of a task: the releases before and after it.
type undoRecord struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// appState is the state of an application before a call.
type appState struct {
	// current is the version to which the link points.
	current string
	// confirmed is the last version that passed its health check.
	confirmed string
	// pending is a switch that was not confirmed, or nil.
	pending *pendingSwitch
}

// run performs or undoes the task, or makes a dry run, and completes the outcome.
func (d *deployment) run(ctx context.Context) error {
	if d.call.Action == tasker.DryRun {
		d.out.DryRun = true
		return d.dryRun(ctx)
	}
	do := d.perform
	if d.call.Action == tasker.Undo {
		do = d.undo
	}
	if err := d.locked(ctx, do); err != nil {
		d.out.Step = d.step
		d.out.Changed = d.out.Current != d.out.From
		return err
	}
	d.start("", 100, cmp.Or(d.out.Note, cmp.Or(d.out.Current, "no release")+" is current"))
	return nil
}

// locked calls do while no other deployment can change the directory.
func (d *deployment) locked(ctx context.Context, do func(context.Context) error) error {
	d.start("enter", 0, "opening "+d.Directory)
	app, err := lockAppDir(ctx, d.Directory, func() { d.call.Progress(0, "waiting for another deployment to "+d.Directory) })
	if err != nil {
		return err
	}
	defer app.close()
	d.app = app
	return do(ctx)
}

// readState reads the state of the application into the outcome.
func (d *deployment) readState() (appState, error) {
	current, err := d.app.currentVersion()
	if err != nil {
		return appState{}, err
	}
	d.out.From, d.out.Current = current, current
	pending, err := d.app.pendingSwitch()
	if err != nil {
		return appState{}, err
	}
	confirmed := current
	if pending != nil {
		confirmed = pending.From
	}
	return appState{current: current, confirmed: confirmed, pending: pending}, nil
}

func (d *deployment) installer() *installer {
	return &installer{spec: d.spec, progress: d.progress, deployer: d.deployer, app: d.app}
}

func (d *deployment) programs() programs {
	return programs{runner: d.Runner, app: d.app, call: d.call}
}

func (d *deployment) perform(ctx context.Context) error {
	state, err := d.readState()
	if err != nil {
		return err
	}
	if p := state.pending; p.failedIn(d.call) {
		return d.switchBack(ctx, *p) // The agent was killed while it switched back.
	}
	installed, err := d.installer().install(ctx)
	if err != nil {
		return err
	}
	if state.current == d.Version && !installed && state.pending == nil {
		return d.confirmCurrent(ctx)
	}
	if state.confirmed != d.Version {
		d.out.From = state.confirmed
	}
	if state.current != d.Version {
		if err := d.runHook(ctx, "hook before", 65, d.Version, d.Hooks.Before); err != nil {
			return err
		}
	}
	s := pendingSwitch{Task: d.call.TaskID, Attempt: d.call.Attempt, From: state.confirmed, To: d.Version}
	if err := d.switchTo(ctx, state.current, s); err != nil {
		return err
	}
	if err := d.activate(ctx, d.Version); err != nil {
		return d.abandon(ctx, s, err)
	}
	if err := d.app.removeFile(switchFile); err != nil {
		return err
	}
	d.out.Changed = true
	d.prune(state.confirmed)
	return nil
}

// confirmCurrent ends a task whose release is already current.
func (d *deployment) confirmCurrent(ctx context.Context) error {
	var r undoRecord
	switch err := d.Snapshots.Load(d.call.TaskID, &r); {
	case errors.Is(err, snapshot.ErrNotFound):
		d.out.Note = d.Version + " is already current"
	case err != nil:
		return err
	default:
		// This task has switched to it, but the agent was killed before it reported so.
		d.out.Changed, d.out.From = true, r.From
	}
	return d.checkHealth(ctx, d.Version, time.Now())
}

// switchTo records the switch and then points the link to the new release.
func (d *deployment) switchTo(ctx context.Context, current string, s pendingSwitch) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	message := fmt.Sprintf("switching from %s to %s", cmp.Or(current, "none"), s.To)
	if current == s.To {
		message = s.To + " is current, but has not passed its check yet"
	}
	d.start("switch", 75, message)
	if d.out.From != s.To {
		if err := d.Snapshots.Save(d.call.TaskID, undoRecord{From: d.out.From, To: s.To}); err != nil {
			return err
		}
	}
	if err := d.app.writeJSON(switchFile, s); err != nil {
		return err
	}
	if current != s.To {
		if err := d.app.switchLink(s.To); err != nil {
			return err
		}
	}
	d.out.Current = s.To
	return nil
}

// activate restarts the unit, runs the hook and checks the health of the current release.
func (d *deployment) activate(ctx context.Context, version string) error {
	started := time.Now()
	if d.Unit != "" {
		d.start("restart", 80, "restarting "+d.Unit)
		if err := d.Units.Restart(ctx, d.Unit); err != nil {
			return withCause(ctx, err)
		}
	}
	if err := d.runHook(ctx, "hook after", 85, version, d.Hooks.After); err != nil {
		return err
	}
	return d.checkHealth(ctx, version, started)
}

// runHook runs a program of a release if the task names one. When the handler switches
// back, the earlier release may lack the program; then the hook is skipped.
func (d *deployment) runHook(ctx context.Context, step string, percent float64, version string, argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	d.start(step, percent, fmt.Sprintf("running %s of %s", argv[0], version))
	err := d.programs().run(ctx, version, argv)
	if version != d.Version && errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(d.call.Output, "skipped: %v\n", err)
		return nil
	}
	if err != nil {
		return withCause(ctx, fmt.Errorf("the %s, %s of %s, failed: %w", step, argv[0], version, err))
	}
	return nil
}

// checkHealth waits until the release is healthy, if the task has a health check.
func (d *deployment) checkHealth(ctx context.Context, version string, started time.Time) error {
	if d.Health == nil {
		return nil
	}
	h := healthCheck{Health: d.Health, progress: d.progress, programs: d.programs(), version: version}
	err := h.wait(ctx)
	if err == nil || d.Unit == "" {
		return err
	}
	return withJournal(err, d.Unit, d.Units.Journal(context.WithoutCancel(ctx), d.Unit, started))
}

// abandon switches back from a release that failed after the switch.
func (d *deployment) abandon(ctx context.Context, s pendingSwitch, failure error) error {
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) {
		return failure // The next agent process continues.
	}
	s.Step, s.Failed = d.step, failure.Error()
	if err := d.app.writeJSON(switchFile, s); err != nil {
		// For example on a full disk. If the agent is killed while it switches back, the
		// next process tries the new release once more, and then switches back too.
		fmt.Fprintf(d.call.Output, "cannot record that %s failed: %v\n", s.To, err)
	}
	return d.switchBack(ctx, s)
}

// prune removes the surplus releases. The deployment succeeds even if this fails.
func (d *deployment) prune(previous string) {
	surplus, err := d.app.surplusReleases(d.Keep, d.Version, previous)
	for _, version := range surplus {
		d.start("prune", 98, "removing the old release "+version)
		err = errors.Join(err, d.app.removeRelease(version))
	}
	if err != nil {
		fmt.Fprintf(d.call.Output, "not all old releases could be removed: %v\n", err)
	}
}

// withCause adds to an error the reason for which ctx is done, if it is.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
