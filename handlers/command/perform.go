package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

type command struct {
	allow   AllowList
	runner  *process.Runner
	records *snapshot.Store
}

// record says that a task's command was started; what it changed is the undo
// command's affair.
type record struct {
	Argv []string `json:"argv"`
}

func (c command) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	if err := c.check(&p); err != nil {
		return handlers.Result{}, err
	}
	var outcome Outcome
	var err error
	switch call.Action {
	case tasker.DryRun:
		outcome, err = c.plan(ctx, p, call)
	case tasker.Undo:
		outcome, err = c.undo(ctx, p, call)
	default:
		outcome, err = c.perform(ctx, p, call)
	}
	return handlers.Result{Value: outcome, ExitCode: outcome.ExitCode}, err
}

// check looks at all that the payload names, and replaces each command by the one
// to run.
func (c command) check(p *Payload) error {
	if len(p.Argv) == 0 {
		return handlers.Reject("payload.argv names no program")
	}
	if p.Cwd != "" && !filepath.IsAbs(p.Cwd) {
		return handlers.Reject("payload.cwd: %q is no absolute path", p.Cwd)
	}
	if strings.ContainsRune(p.Cwd, 0) || strings.ContainsRune(p.Creates, 0) {
		return handlers.Reject("payload.cwd or payload.creates contains a NUL")
	}
	if err := checkEnv(p.Env); err != nil {
		return err
	}
	for _, it := range []struct {
		name string
		argv *[]string
	}{{"argv", &p.Argv}, {"unless", &p.Unless}, {"plan", &p.Plan}, {"undo", &p.Undo}} {
		argv := *it.argv
		if len(argv) == 0 {
			continue
		}
		if argv[0] == "" {
			return handlers.Reject("payload.%s names no program", it.name)
		}
		if slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
			return handlers.Reject("payload.%s contains a NUL", it.name)
		}
		var err error
		if *it.argv, err = c.allow.Match(argv); err != nil {
			return err
		}
	}
	return nil
}

func (c command) perform(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if note, err := skip(p); note != "" || err != nil {
		return Outcome{Note: note}, err
	}
	if len(p.Unless) > 0 {
		exit, _, err := c.run(ctx, p.Unless, p, call)
		if err != nil {
			return Outcome{}, fmt.Errorf("unless: %w", err)
		}
		if exit.Code == 0 {
			return Outcome{ExitCode: &exit.Code, Note: "not run: the command of unless ended with exit code 0"}, nil
		}
	}
	// Without a command that undoes it, there is nothing to keep in mind.
	if len(p.Undo) > 0 {
		if err := c.records.Save(call.TaskID, record{Argv: p.Argv}); err != nil {
			return Outcome{}, err
		}
	}
	outcome, err := Outcome{}.ended(c.run(ctx, p.Argv, p, call))
	if !outcome.Changed {
		err = errors.Join(err, c.records.Delete(call.TaskID))
	}
	return outcome, err
}

func (c command) plan(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if note, err := skip(p); note != "" || err != nil {
		return Outcome{Plan: true, Note: note}, err
	}
	planned := Outcome{Plan: true, Changed: true, Argv: p.Argv}
	if len(p.Unless) > 0 {
		planned.Note = "run only if the command of unless does not end with exit code 0"
	}
	if len(p.Plan) == 0 {
		return planned, nil
	}
	return planned.ended(c.run(ctx, p.Plan, p, call))
}

func (c command) undo(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if len(p.Undo) == 0 {
		return Outcome{}, handlers.Reject("the task cannot be undone: its payload has no undo, the command that brings back what was there before")
	}
	switch err := c.records.Load(call.Undoes, &record{}); {
	case errors.Is(err, snapshot.ErrNotFound):
		return Outcome{Note: "nothing to undo: the task has run nothing here, was undone, or is too long ago"}, nil
	case err != nil:
		return Outcome{}, err
	}
	outcome, err := Outcome{}.ended(c.run(ctx, p.Undo, p, call))
	if err == nil {
		err = c.records.Delete(call.Undoes)
	}
	return outcome, err
}

// skip says why nothing has to be run.
func skip(p Payload) (note string, err error) {
	if p.Creates == "" {
		return "", nil
	}
	switch _, err := os.Lstat(p.Creates); {
	case err == nil:
		return "not run: " + p.Creates + " exists", nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	default:
		return "", fmt.Errorf("creates: %w", err)
	}
}

func (c command) run(ctx context.Context, argv []string, p Payload, call handlers.Call) (process.Exit, *process.Tail, error) {
	said := &process.Tail{Out: call.Output}
	spec := process.Spec{
		Argv:          argv,
		Env:           process.Environ(call, p.Env),
		Dir:           p.Cwd,
		Stdout:        said,
		Stderr:        said,
		RecordProcess: call.RecordProcess,
	}
	if p.Stdin != "" {
		spec.Stdin = strings.NewReader(p.Stdin)
	}
	exit, err := c.runner.Run(ctx, spec)
	return exit, said, err
}

// ended is the outcome with what a run has returned: it has changed something,
// whatever its end, unless it was never started.
func (o Outcome) ended(exit process.Exit, said *process.Tail, err error) (Outcome, error) {
	var start *process.StartError
	o.Changed = !errors.As(err, &start)
	if o.Changed && !errors.Is(err, process.ErrSupervisorLost) {
		o.ExitCode = &exit.Code
	}
	if err == nil {
		err = said.Explain(exit.Err())
	}
	return o, err
}
