package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

type command struct {
	allow     AllowList
	runner    *process.Runner
	snapshots *snapshot.Store
}

// startRecord is the snapshot of a task: it records that the command was started.
type startRecord struct {
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
		outcome, err = c.dryRun(ctx, p, call)
	case tasker.Undo:
		outcome, err = c.undo(ctx, p, call)
	default:
		outcome, err = c.perform(ctx, p, call)
	}
	return handlers.Result{Value: outcome, ExitCode: outcome.ExitCode}, err
}

// checkPayload rejects a payload that no agent would perform.
func checkPayload(p Payload) error {
	for field, value := range map[string]string{"cwd": p.Cwd, "creates": p.Creates} {
		if strings.ContainsRune(value, 0) {
			return handlers.Reject("payload.%s: contains a NUL", field)
		}
		if value != "" && !isPlainPath(value) {
			return handlers.Reject("payload.%s: %q is not a plain absolute path, without '.', '..' or double slashes", field, value)
		}
	}
	if len(p.Argv) == 0 {
		return handlers.Reject("payload.argv: names no program")
	}
	for _, field := range p.commands() {
		if err := field.check(); err != nil {
			return err
		}
	}
	return checkEnv(p.Env)
}

// commandField is a field of the payload that is a command.
type commandField struct {
	name string
	argv *[]string
}

// check rejects a command that no agent would run.
func (f commandField) check() error {
	argv := *f.argv
	if len(argv) > 0 && argv[0] == "" {
		return handlers.Reject("payload.%s: names no program", f.name)
	}
	if slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return handlers.Reject("payload.%s: contains a NUL", f.name)
	}
	return nil
}

func (p *Payload) commands() []commandField {
	return []commandField{{"argv", &p.Argv}, {"unless", &p.Unless}, {"plan", &p.DryRun}, {"undo", &p.Undo}}
}

// check rejects a payload that the agent does not allow, and replaces each command by the
// argument vector to run.
func (c command) check(p *Payload) error {
	if err := checkPayload(*p); err != nil {
		return err
	}
	use := Entry{Env: slices.Sorted(maps.Keys(p.Env)), Stdin: p.Stdin != ""}
	if p.Cwd != "" {
		use.Cwd = []string{p.Cwd}
	}
	for _, field := range p.commands() {
		if len(*field.argv) == 0 {
			continue
		}
		use.Creates = nil
		if field.name == "argv" && p.Creates != "" {
			use.Creates = []string{p.Creates}
		}
		var err error
		if *field.argv, err = c.allow.match(*field.argv, use); err != nil {
			return err
		}
	}
	return nil
}

func (c command) perform(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if note, err := skipReason(p); note != "" || err != nil {
		return Outcome{Note: note}, err
	}
	unless := ""
	if len(p.Unless) > 0 {
		exit, _, err := c.exec(ctx, p.Unless, p, call)
		if err != nil {
			return Outcome{}, fmt.Errorf("unless: %w", err)
		}
		unless = exit.Remaining.Note()
		if exit.Code == 0 {
			return Outcome{ExitCode: &exit.Code, Note: process.JoinNotes("not run: the unless command ended with exit code 0", unless)}, nil
		}
	}
	// Without an undo command, no undo needs the snapshot.
	if len(p.Undo) > 0 {
		if err := c.snapshots.Save(call.TaskID, startRecord{Argv: p.Argv}); err != nil {
			return Outcome{}, err
		}
	}
	outcome, err := c.run(ctx, p.Argv, p, call)
	outcome.Note = process.JoinNotes(unless, outcome.Note)
	if !outcome.Changed {
		err = errors.Join(err, c.snapshots.Delete(call.TaskID))
	}
	return outcome, err
}

func (c command) dryRun(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if note, err := skipReason(p); note != "" || err != nil {
		return Outcome{DryRun: true, Note: note}, err
	}
	outcome := Outcome{DryRun: true, Changed: true, Argv: p.Argv}
	if len(p.Unless) > 0 {
		outcome.Note = "run only if the unless command does not end with exit code 0"
	}
	if len(p.DryRun) == 0 {
		return outcome, nil
	}
	planned, err := c.run(ctx, p.DryRun, p, call)
	outcome.Changed, outcome.ExitCode = planned.Changed, planned.ExitCode
	outcome.Note = process.JoinNotes(outcome.Note, planned.Note)
	return outcome, err
}

func (c command) undo(ctx context.Context, p Payload, call handlers.Call) (Outcome, error) {
	if len(p.Undo) == 0 {
		return Outcome{}, handlers.Reject("the task cannot be undone: its payload has no undo command")
	}
	switch err := c.snapshots.Load(call.Undoes, &startRecord{}); {
	case errors.Is(err, snapshot.ErrNotFound):
		return Outcome{Note: "nothing to undo: the task has run nothing here, was undone, or is too long ago"}, nil
	case err != nil:
		return Outcome{}, err
	}
	outcome, err := c.run(ctx, p.Undo, p, call)
	if err == nil {
		err = c.snapshots.Delete(call.Undoes)
	}
	return outcome, err
}

// skipReason explains why nothing has to be run. It is empty if the command has to run.
func skipReason(p Payload) (note string, err error) {
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

// run runs a command and returns its outcome. A command that was started counts as a change,
// whatever its exit.
func (c command) run(ctx context.Context, argv []string, p Payload, call handlers.Call) (Outcome, error) {
	exit, output, err := c.exec(ctx, argv, p, call)
	var start *process.StartError
	outcome := Outcome{Changed: !errors.As(err, &start), Note: exit.Remaining.Note()}
	if outcome.Changed && !errors.Is(err, process.ErrSupervisorLost) {
		outcome.ExitCode = &exit.Code
	}
	if err == nil {
		err = output.Explain(exit.Err())
	}
	return outcome, err
}

func (c command) exec(ctx context.Context, argv []string, p Payload, call handlers.Call) (process.Exit, process.Output, error) {
	output := process.NewOutput(call.Output, 1)
	spec := process.Spec{
		Argv:          argv,
		Env:           process.Environ(call, p.Env),
		Dir:           p.Cwd,
		Stdout:        output.Stdout,
		Stderr:        output.Stderr,
		RecordProcess: call.RecordProcess,
	}
	if p.Stdin != "" {
		spec.Stdin = strings.NewReader(p.Stdin)
	}
	exit, err := c.runner.Run(ctx, spec)
	return exit, output, err
}
