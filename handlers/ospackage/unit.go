package ospackage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

// cancelGrace is how long a running package manager may continue after the task was
// cancelled or has timed out.
const cancelGrace = time.Minute

// unitNote is what the next agent process needs to know of a transaction.
type unitNote struct {
	Records []packageRecord `json:"record"`
	Targets []target        `json:"targets"`
}

// start starts a transaction and follows it to its end.
func (a *assignment) start(ctx context.Context, unit string, t transaction) error {
	if err := a.waitForLocks(ctx); err != nil {
		return a.unchanged(err)
	}
	note, err := json.Marshal(unitNote{Records: t.records, Targets: a.targets})
	if err != nil {
		return fmt.Errorf("encode the note of the unit: %w", err)
	}
	argv, err := a.manager.applyCommand(ctx, t.operation)
	if err != nil {
		return err
	}
	a.call.Progress(50, "changing packages")
	err = a.units.Start(ctx, transientunit.Spec{
		Name: unit, Description: "tasker: packages (task " + a.call.TaskID + ")", Argv: argv, Env: pkgmanager.Environ(), Note: note,
	})
	if err != nil {
		return err
	}
	return a.follow(ctx, unit, note)
}

// follow waits for the end of a transaction, which an earlier agent process may have
// started, and checks its result.
func (a *assignment) follow(ctx context.Context, unit string, encoded []byte) error {
	var note unitNote
	if err := json.Unmarshal(encoded, &note); err != nil {
		return fmt.Errorf("read the note of the unit %s: %w", unit, err)
	}
	var err error
	if a.manager, err = detectManager(); err != nil {
		return err
	}
	a.targets = note.Targets
	r := transactionResult{repair: a.manager.repairAdvice()}
	followCtx, cancel := a.delayCancel(ctx)
	defer cancel()
	r.exit, r.err = a.units.Follow(followCtx, unit, io.MultiWriter(a.call.Output, &r.reasons), a.call.OutputBytes)
	if errors.Is(r.err, handlers.ErrStopping) {
		return r.err
	}
	after, err := a.manager.installed(context.WithoutCancel(ctx))
	if err != nil {
		return errors.Join(r.err, err)
	}
	a.out.Packages = a.report(note.Records, after)
	a.out.Changed = slices.ContainsFunc(a.out.Packages, func(c Change) bool {
		return c.From != c.To || c.WasHeld != c.Held || c.Incomplete != ""
	})
	// Completing an incomplete package is a change too.
	a.out.Changed = a.out.Changed || slices.ContainsFunc(note.Records, func(p packageRecord) bool { return p.Incomplete && after[p.Name].Complete })
	r.changed = a.out.Changed
	r.compare(note, after)
	if err := r.check(); err != nil {
		return err
	}
	return a.deleteUndone()
}

// delayCancel returns a context that is done at once when the agent stops, and after
// cancelGrace when ctx is done for another reason.
func (a *assignment) delayCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	delayed, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, handlers.ErrStopping) {
			cancel(cause)
			return
		}
		a.call.Progress(90, "waiting for the package manager to end")
		timer := time.NewTimer(cancelGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(cause)
		case <-delayed.Done():
		}
	})
	return delayed, func() { stop(); cancel(nil) }
}

// transactionResult is the result of a transaction.
type transactionResult struct {
	exit transientunit.Exit
	// err is the error with which the transaction was followed.
	err     error
	reasons failureReasons
	repair  string
	changed bool
	// deviations describe the packages that are not in the target state.
	deviations []string
	// reached reports whether all named packages are in the target state, and complete
	// whether all packages are completely installed.
	reached, complete bool
}

// compare compares the packages after the transaction with the targets.
func (r *transactionResult) compare(note unitNote, after map[string]installedPackage) {
	r.reached, r.complete = true, true
	for _, t := range note.Targets {
		newest := ""
		if i := slices.IndexFunc(note.Records, func(p packageRecord) bool { return p.Name == t.Name }); i >= 0 {
			newest = note.Records[i].To
		}
		p, exists := after[t.Name]
		if t.isMet(p, exists, newest) {
			continue
		}
		// The task does not require a state of the other packages.
		r.reached = r.reached && t.Other
		switch {
		case !exists:
			r.deviations = append(r.deviations, t.Name+" is not installed")
		case !p.Complete:
			r.complete = false
			r.deviations = append(r.deviations, fmt.Sprintf("%s is at version %s and not completely installed (%s)", t.Name, p.Version, p.Status))
		default:
			r.deviations = append(r.deviations, fmt.Sprintf("%s is at version %s", t.Name, p.Version))
		}
	}
}

// check returns an error unless the targets are reached.
func (r *transactionResult) check() error {
	lost := errors.Is(r.err, transientunit.ErrLost)
	var reason string
	switch {
	case r.reached && (lost || r.err == nil && r.exit.Err() == nil):
		return nil
	case lost || r.err == nil && r.exit.Signal != "":
		reason = "the package manager was interrupted"
	case r.err != nil:
		r.deviations = append(r.deviations, "to repair it on the server: "+r.repair)
		return fmt.Errorf("%w, and the package manager had not ended %s later; %s", r.err, cancelGrace, strings.Join(r.deviations, ", "))
	case r.exit.Code != 0:
		reason = fmt.Sprintf("the package manager failed with exit code %d: %s", r.exit.Code, r.reasons.String())
	default:
		reason = "the package manager succeeded, but did not reach the wanted state"
	}
	if !r.changed {
		r.deviations = append(r.deviations, "no package was changed")
	} else if !r.complete {
		r.deviations = append(r.deviations, "undo the task, or name a version that can be installed; on the server: "+r.repair)
	}
	return errors.New(reason + "; " + strings.Join(r.deviations, ", "))
}
