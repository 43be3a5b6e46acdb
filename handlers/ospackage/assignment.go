package ospackage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// assignment is one call of the handler.
type assignment struct {
	*handler
	manager     manager
	call        handlers.Call
	targets     []target
	update      bool
	lockTimeout time.Duration
	// lockDeadline is the time until which the call waits for other package managers.
	lockDeadline time.Time
	out          Outcome
	// listsErr is the error with which the package lists could not be updated.
	listsErr error
}

// transaction is what the first stage has prepared for the second.
type transaction struct {
	operation
	// changes are the changes that the package manager has announced.
	changes []Change
	// records are the packages before the transaction.
	records []packageRecord
	// needed reports whether the transaction would change anything.
	needed bool
}

func (a *assignment) run(ctx context.Context) error {
	unit := fmt.Sprintf("tasker-%s-%s-%d", Name, a.call.TaskID, a.call.Attempt)
	// A transaction that an earlier agent process has started must be followed to its end,
	// even if ctx is done.
	note, started, err := a.units.Find(context.WithoutCancel(ctx), unit)
	switch {
	case err != nil:
		return err
	case started:
		return a.follow(ctx, unit, note)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	a.out.DryRun = a.call.Action == tasker.DryRun
	if a.call.Action == tasker.Undo {
		if found, err := a.loadTargets(); err != nil || !found {
			return err
		}
	}
	if !a.out.DryRun {
		select {
		case a.slot <- struct{}{}:
			defer func() { <-a.slot }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	a.lockDeadline = time.Now().Add(a.lockTimeout)
	return a.perform(ctx, unit)
}

// perform brings the packages to their targets. In a dry run it only reports what would
// change.
func (a *assignment) perform(ctx context.Context, unit string) error {
	installed, err := a.manager.installed(ctx)
	if err != nil {
		return err
	}
	a.out.Packages = a.report(nil, installed)
	if len(a.unmet(installed)) == 0 {
		return a.deleteUndone()
	}
	if err := a.updateLists(ctx); err != nil {
		return err
	}
	t, err := a.prepare(ctx, installed)
	switch {
	case err != nil:
		return err
	case a.out.DryRun:
		a.out.Changed = t.needed
		a.out.Packages = a.report(t.records, a.predict(t.changes, installed))
		return nil
	case !t.needed:
		return a.deleteUndone()
	}
	if err := a.download(ctx, t.operation); err != nil {
		return err
	}
	if a.call.Action == tasker.Perform {
		if err := a.snapshots.Save(a.call.TaskID, t.records); err != nil {
			return err
		}
	}
	return a.start(ctx, unit, t)
}

// prepare finds out what a transaction has to do, and rejects what it must not do.
func (a *assignment) prepare(ctx context.Context, installed map[string]installedPackage) (transaction, error) {
	var t transaction
	var err error
	if t.operation, err = a.buildOperation(ctx, installed); err != nil {
		return t, err
	}
	if t.changes, err = a.manager.simulate(ctx, t.operation); err != nil {
		return t, a.unchanged(err)
	}
	if err := a.checkChanges(t.operation, t.changes, installed); err != nil {
		return t, err
	}
	holdsChange, err := a.addHolds(ctx, &t, installed)
	if err != nil {
		return t, err
	}
	t.records = a.newRecords(t.changes, installed)
	t.needed = len(t.changes) > 0 || holdsChange || slices.ContainsFunc(t.records, func(r packageRecord) bool { return r.Incomplete })
	return t, nil
}

// updateLists updates the package lists. If that fails, the old lists are used, unless the
// task wants the latest versions.
func (a *assignment) updateLists(ctx context.Context) error {
	if !a.update || a.out.DryRun {
		return nil
	}
	a.call.Progress(0, "fetching the lists of packages")
	err := a.runCommand(ctx, a.manager.updateCommand())
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || errors.As(err, new(*lockError)) || a.targets[0].State == latest:
		return a.unchanged(fmt.Errorf("fetch the lists of packages: %w", err))
	}
	a.listsErr = err
	fmt.Fprintln(a.call.Output, "not all lists of packages could be fetched; the old ones are used")
	return nil
}

// download downloads the packages of an operation.
func (a *assignment) download(ctx context.Context, op operation) error {
	commands, err := a.manager.downloadCommands(ctx, op)
	if err != nil {
		return err
	}
	for _, argv := range commands {
		a.call.Progress(20, "downloading packages")
		if err := a.runCommand(ctx, argv); err != nil {
			return a.unchanged(fmt.Errorf("download the packages: %w", err))
		}
	}
	return nil
}

// unchanged adds to an error of the first stage that no package was changed, and why the
// package lists are old, if they are.
func (a *assignment) unchanged(err error) error {
	if errors.Is(err, handlers.ErrStopping) {
		return err
	}
	if a.listsErr != nil {
		err = fmt.Errorf("%w; the lists of packages could not be fetched: %s", err, a.listsErr.Error())
	}
	return fmt.Errorf("%w; no package was changed", err)
}

// waitForLocks waits until no other package manager runs.
func (a *assignment) waitForLocks(ctx context.Context) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		holder := a.manager.lockHolder()
		if holder == "" {
			return nil
		}
		if !time.Now().Before(a.lockDeadline) {
			return &lockError{holder: holder, waited: a.lockTimeout}
		}
		a.call.Progress(0, "waiting: "+holder)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// runCommand runs a command of the first stage. It is repeated if another package manager
// took a lock at the same time.
func (a *assignment) runCommand(ctx context.Context, argv []string) error {
	for {
		if err := a.waitForLocks(ctx); err != nil {
			return err
		}
		var reasons failureReasons
		out := io.MultiWriter(a.call.Output, &reasons)
		exit, err := a.runner.Run(ctx, process.Spec{
			Argv: argv, Env: process.Environ(a.call, pkgmanager.Env()), Stdout: out, Stderr: out, RecordProcess: a.call.RecordProcess,
		})
		switch {
		case err != nil:
			return err
		case exit.Err() == nil:
			return nil
		case a.manager.lockHolder() != "" && time.Now().Before(a.lockDeadline):
		default:
			return fmt.Errorf("%s failed with %w: %s", argv[0], exit.Err(), reasons.String())
		}
	}
}

// loadTargets makes the state before a task the target of its undo. It reports whether
// there is a snapshot of the task.
func (a *assignment) loadTargets() (found bool, err error) {
	var records []packageRecord
	err = a.snapshots.Load(a.call.Undoes, &records)
	if errors.Is(err, snapshot.ErrNotFound) {
		a.out.Reason = err.Error()
		a.out.Packages = []Change{}
		return false, nil
	}
	a.targets = nil
	for _, r := range records {
		t := target{Name: r.Name, Version: r.From, Other: r.Other, record: &r}
		if r.From == "" {
			t.State = absent
		}
		if !r.Other {
			t.Hold = &r.Held
		}
		a.targets = append(a.targets, t)
	}
	return true, err
}

// deleteUndone deletes the snapshot of a task that has been undone.
func (a *assignment) deleteUndone() error {
	if a.call.Action != tasker.Undo {
		return nil
	}
	return a.snapshots.Delete(a.call.Undoes)
}
