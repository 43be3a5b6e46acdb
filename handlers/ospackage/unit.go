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

// mercy is how long a package manager that is at work may go on when the task was
// cancelled or has taken too long.
const mercy = time.Minute

// note is what the next agent process has to know of a transaction.
type note struct {
	Record  []was    `json:"record"`
	Targets []target `json:"targets"`
}

// start starts the transaction, and follows it to its end.
func (j *job) start(ctx context.Context, unit string, op operation, record []was) error {
	if err := j.free(ctx); err != nil {
		return j.unchanged(err)
	}
	kept, err := json.Marshal(note{Record: record, Targets: j.targets})
	if err != nil {
		return fmt.Errorf("encode the note of the unit: %w", err)
	}
	argv, err := j.sys.apply(ctx, op)
	if err != nil {
		return err
	}
	var env []string
	for name, value := range pkgmanager.Env() {
		env = append(env, name+"="+value)
	}
	j.call.Progress(50, "changing packages")
	err = j.units.Start(ctx, transientunit.Spec{
		Name: unit, Description: "tasker: packages (task " + j.call.TaskID + ")", Argv: argv, Env: env, Note: kept,
	})
	if err != nil {
		return err
	}
	return j.follow(ctx, unit, kept)
}

// follow waits for the end of a transaction that this or an earlier process has
// started, and judges it.
func (j *job) follow(ctx context.Context, unit string, kept []byte) error {
	var n note
	if err := json.Unmarshal(kept, &n); err != nil {
		return fmt.Errorf("read the note of the unit %s: %w", unit, err)
	}
	var err error
	if j.sys, err = systemOf(); err != nil {
		return err
	}
	j.targets = n.Targets
	var said complaints
	patient, cancel := j.patient(ctx)
	defer cancel()
	exit, ended := j.units.Follow(patient, unit, io.MultiWriter(j.call.Output, &said), j.call.OutputBytes)
	if errors.Is(ended, handlers.ErrStopping) {
		return ended
	}
	after, err := j.sys.installed(context.WithoutCancel(ctx))
	if err != nil {
		return errors.Join(ended, err)
	}
	j.out.Packages = j.changes(n.Record, after)
	j.out.Changed = slices.ContainsFunc(j.out.Packages, func(c Change) bool {
		return c.From != c.To || c.WasHeld != c.Held || c.Incomplete != ""
	})
	// That one was made whole is a change too.
	j.out.Changed = j.out.Changed || slices.ContainsFunc(n.Record, func(w was) bool { return w.Partial && after[w.Name].Whole })
	if err := j.verdict(n, after, exit, ended, said.String()); err != nil {
		return err
	}
	return j.undone()
}

// patient is done when the agent stops, and, a while later, when ctx is done for
// another reason.
func (j *job) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	patient, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, handlers.ErrStopping) {
			cancel(cause)
			return
		}
		j.call.Progress(90, "the package manager is let come to its end")
		timer := time.NewTimer(mercy)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(cause)
		case <-patient.Done():
		}
	})
	return patient, func() { stop(); cancel(nil) }
}

// verdict is nil if all is as it was to be.
func (j *job) verdict(n note, after map[string]installed, exit transientunit.Exit, ended error, said string) error {
	var is []string
	reached, whole := true, true
	for _, t := range n.Targets {
		newest := ""
		if i := slices.IndexFunc(n.Record, func(w was) bool { return w.Name == t.Name }); i >= 0 {
			newest = n.Record[i].To
		}
		p, there := after[t.Name]
		if t.met(p, there, newest) {
			continue
		}
		// Of the others nobody has said how they are to be.
		reached = reached && t.Other
		switch {
		case !there:
			is = append(is, t.Name+" is not installed")
		case !p.Whole:
			whole = false
			is = append(is, fmt.Sprintf("%s is at version %s and not completely installed (%s)", t.Name, p.Version, p.Says))
		default:
			is = append(is, fmt.Sprintf("%s is at version %s", t.Name, p.Version))
		}
	}
	reason := ""
	switch {
	case ended == nil && exit.Err() == nil && reached, errors.Is(ended, transientunit.ErrLost) && reached:
		return nil
	case errors.Is(ended, transientunit.ErrLost) || ended == nil && exit.Signal != "":
		reason = "the package manager was interrupted"
	case ended != nil:
		return fmt.Errorf("%w, and the package manager had not ended %s later; %s; it is repaired by the next task, or on the server: %s",
			ended, mercy, strings.Join(is, ", "), j.sys.repair())
	case exit.Code != 0:
		reason = fmt.Sprintf("the package manager failed with exit code %d: %s", exit.Code, said)
	default:
		reason = "the package manager has ended well, but not with what was wanted"
	}
	switch {
	case !j.out.Changed:
		is = append(is, "no package was changed")
	case !whole:
		is = append(is, "undo the task, or name a version that can be installed; on the server: "+j.sys.repair())
	}
	return errors.New(reason + "; " + strings.Join(is, ", "))
}
