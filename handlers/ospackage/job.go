package ospackage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// job is one call of the handler.
type job struct {
	*handler
	sys      system
	call     handlers.Call
	targets  []target
	update   bool
	patience time.Duration
	deadline time.Time
	out      Outcome
	// stale is why the lists of packages could not be fetched.
	stale error
}

func (j *job) do(ctx context.Context) error {
	unit := fmt.Sprintf("tasker-%s-%s-%d", Name, j.call.TaskID, j.call.Attempt)
	// What an earlier process has started is looked for even if ctx is done: it is to
	// come to its end.
	kept, started, err := j.units.Find(context.WithoutCancel(ctx), unit)
	switch {
	case err != nil:
		return err
	case started:
		return j.follow(ctx, unit, kept)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if j.sys, err = systemOf(); err != nil {
		return err
	}
	j.out.Plan = j.call.Action == tasker.DryRun
	if j.call.Action == tasker.Undo {
		if known, err := j.recall(); err != nil || !known {
			return err
		}
	}
	if !j.out.Plan {
		select {
		case j.turn <- struct{}{}:
			defer func() { <-j.turn }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	j.deadline = time.Now().Add(j.patience)
	return j.perform(ctx, unit)
}

// perform brings the packages to their targets, or says what that would change.
func (j *job) perform(ctx context.Context, unit string) error {
	there, err := j.sys.installed(ctx)
	if err != nil {
		return err
	}
	j.out.Packages = j.changes(nil, there)
	if len(j.unmet(there)) == 0 {
		return j.undone()
	}
	if err := j.fetchLists(ctx); err != nil {
		return err
	}
	op, err := j.operation(ctx, there)
	if err != nil {
		return err
	}
	changes, err := j.sys.simulate(ctx, op)
	if err != nil {
		return j.unchanged(fmt.Errorf("%w%s", err, j.staleness()))
	}
	if err := j.guard(changes, there); err != nil {
		return err
	}
	held, err := j.hold(ctx, &op, changes, there)
	if err != nil {
		return err
	}
	record := j.record(changes, there)
	switch {
	case j.out.Plan:
		j.out.Changed = len(changes) > 0 || held || j.partial(there)
		j.out.Packages = j.changes(record, j.leads(changes, there))
		return nil
	case len(changes) == 0 && !held && !j.partial(there):
		return j.undone()
	}
	fetch, err := j.sys.fetch(ctx, op)
	if err != nil {
		return err
	}
	for _, argv := range fetch {
		j.call.Progress(20, "downloading packages")
		if err := j.run(ctx, argv); err != nil {
			return j.unchanged(fmt.Errorf("download the packages: %w%s", err, j.staleness()))
		}
	}
	if j.call.Action == tasker.Perform {
		if err := j.before.Save(j.call.TaskID, record); err != nil {
			return err
		}
	}
	return j.start(ctx, unit, op, record)
}

// fetchLists fetches the lists of packages. That it cannot is no failure yet unless
// the newest versions are wanted: it may do with the old ones.
func (j *job) fetchLists(ctx context.Context) error {
	if !j.update || j.out.Plan {
		return nil
	}
	j.call.Progress(0, "fetching the lists of packages")
	err := j.run(ctx, j.sys.lists())
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || errors.As(err, new(*lockError)) || j.targets[0].State == latest:
		return j.unchanged(fmt.Errorf("fetch the lists of packages: %w", err))
	}
	j.stale = err
	fmt.Fprintln(j.call.Output, "not all lists of packages could be fetched; the old ones are used")
	return nil
}

func (j *job) staleness() string {
	if j.stale == nil {
		return ""
	}
	return "; the lists of packages could not be fetched: " + j.stale.Error()
}

// unchanged adds to an error what is true of all that comes before the transaction.
func (j *job) unchanged(err error) error {
	if errors.Is(err, handlers.ErrStopping) {
		return err
	}
	return fmt.Errorf("%w; no package was changed", err)
}

// lockError: another package manager did not end in time.
type lockError struct {
	who  string
	time time.Duration
}

func (e *lockError) Error() string {
	return fmt.Sprintf("another package manager is at work, and was waited for for %s: %s; when it has ended, or was ended, try again, or wait longer with lock_timeout", e.time, e.who)
}

// free returns when no other package manager is at work.
func (j *job) free(ctx context.Context) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		who := j.sys.holder()
		if who == "" {
			return nil
		}
		if !time.Now().Before(j.deadline) {
			return &lockError{who: who, time: j.patience}
		}
		j.call.Progress(0, "waiting: "+who)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// run runs what only reads and downloads. Where another package manager comes in
// between, it is tried again.
func (j *job) run(ctx context.Context, argv []string) error {
	for {
		if err := j.free(ctx); err != nil {
			return err
		}
		var said complaints
		out := io.MultiWriter(j.call.Output, &said)
		exit, err := j.runner.Run(ctx, process.Spec{
			Argv: argv, Env: process.Environ(j.call, pkgmanager.Env()), Stdout: out, Stderr: out, RecordProcess: j.call.RecordProcess,
		})
		switch {
		case err != nil:
			return err
		case exit.Err() == nil:
			return nil
		case j.sys.holder() != "" && time.Now().Before(j.deadline):
		default:
			return fmt.Errorf("%s failed with %w: %s", argv[0], exit.Err(), said.String())
		}
	}
}

// recall makes the state before a task the target; known is false if there is none.
func (j *job) recall() (known bool, err error) {
	var was []was
	err = j.before.Load(j.call.Undoes, &was)
	if errors.Is(err, snapshot.ErrNotFound) {
		j.out.Reason = err.Error()
		j.out.Packages = []Change{}
		return false, nil
	}
	j.targets = nil
	for _, w := range was {
		t := target{Name: w.Name, Version: w.From, Other: w.Other, was: &w}
		if w.From == "" {
			t.State = absent
		}
		if !w.Other {
			t.Hold = &w.Held
		}
		j.targets = append(j.targets, t)
	}
	return true, err
}

// undone forgets what was before a task once that is so again.
func (j *job) undone() error {
	if j.call.Action != tasker.Undo {
		return nil
	}
	return j.before.Delete(j.call.Undoes)
}

// complaints keeps of what a package manager prints what may be the reason of its
// failure.
type complaints struct {
	rest    string
	reasons []string
	last    []string
}

// reasonLines bounds what is kept.
const reasonLines = 10

func (c *complaints) Write(b []byte) (int, error) {
	lines := strings.Split(c.rest+string(b), "\n")
	c.rest = lines[len(lines)-1]
	if len(c.rest) > 4096 {
		c.rest = ""
	}
	more := false // it goes on in the next line
	for _, line := range lines[:len(lines)-1] {
		if more = isReason(line) || more && strings.HasPrefix(line, " "); more {
			c.reasons = append(c.reasons, strings.TrimSpace(line))
		}
		if line = strings.TrimSpace(line); line != "" {
			c.last = append(c.last, line)
		}
	}
	c.reasons = c.reasons[max(0, len(c.reasons)-reasonLines):]
	c.last = c.last[max(0, len(c.last)-3):]
	return len(b), nil
}

func isReason(line string) bool {
	for _, begin := range []string{"E: ", "dpkg: error", "Error: ", "Errors during", "  - Curl error", "error: "} {
		if strings.HasPrefix(line, begin) {
			return true
		}
	}
	return strings.Contains(line, "scriptlet failed")
}

// String is the reasons, or the last lines where none is known as such.
func (c *complaints) String() string {
	if len(c.reasons) > 0 {
		return strings.Join(c.reasons, "; ")
	}
	return strings.Join(c.last, "; ")
}
