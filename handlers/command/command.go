package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// Name is the handler's name.
const Name = "command"

// Options are what the agent decides.
type Options struct {
	// Allow is the allow-list; see the package comment.
	Allow [][]string
	// Runner runs the commands.
	Runner *process.Runner
}

// Payload is what a task asks for.
type Payload struct {
	Argv  []string          `json:"argv"`
	Env   map[string]string `json:"env,omitempty"`
	Cwd   string            `json:"cwd,omitempty"`
	Stdin string            `json:"stdin,omitempty"`
}

// Outcome is the result's value.
type Outcome struct {
	ExitCode int `json:"exit_code"`
}

// New makes the handler. The error names the entry of the allow-list that is
// wrong.
func New(o Options) (handlers.Handler, error) {
	allow, err := newAllowList(o.Allow)
	if err != nil {
		return nil, fmt.Errorf("handlers.command: %w", err)
	}
	c := command{allow: allow, runner: o.Runner}
	return handlers.Typed(Info(), c.run), nil
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:    Name,
		Summary: "Runs a program that the agent's allow-list names, without a shell.",
		Schema: []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "argv": {
      "description": "the program, by its absolute path or its last element, and its arguments",
      "type": "array", "minItems": 1, "items": {"type": "string"}
    },
    "env": {
      "description": "environment variables in addition to PATH, HOME, LANG and TASKER_…",
      "type": "object", "additionalProperties": {"type": "string"}
    },
    "cwd": {"description": "the working directory, an absolute path; / if left out", "type": "string"},
    "stdin": {"description": "what the program reads", "type": "string"}
  },
  "required": ["argv"],
  "additionalProperties": false
}`),
	}
}

type command struct {
	allow  allowList
	runner *process.Runner
}

func (c command) run(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	argv, err := c.check(p)
	if err != nil {
		return handlers.Result{}, err
	}
	spec := process.Spec{
		Argv:    argv,
		Env:     process.Environ(call, p.Env),
		Dir:     p.Cwd,
		Stdout:  call.Output,
		Stderr:  call.Output,
		Spawned: call.Spawned,
	}
	if p.Stdin != "" {
		spec.Stdin = io.Reader(strings.NewReader(p.Stdin))
	}
	exit, err := c.runner.Run(ctx, spec)
	var start *process.StartError
	if errors.As(err, &start) {
		return handlers.Result{}, err
	}
	result := handlers.Result{Value: Outcome{ExitCode: exit.Code}, ExitCode: &exit.Code}
	if errors.Is(err, process.ErrSupervisorLost) {
		result = handlers.Result{}
	}
	if err == nil {
		err = exit.Err()
	}
	return result, err
}

// check returns the argument vector to run.
func (c command) check(p Payload) ([]string, error) {
	if len(p.Argv) == 0 || p.Argv[0] == "" {
		return nil, handlers.Reject("payload.argv names no program")
	}
	if slices.ContainsFunc(append([]string{p.Cwd}, p.Argv...), func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return nil, handlers.Reject("payload.argv or payload.cwd contains a NUL")
	}
	if p.Cwd != "" && !filepath.IsAbs(p.Cwd) {
		return nil, handlers.Reject("payload.cwd: %q is no absolute path", p.Cwd)
	}
	if err := checkEnv(p.Env); err != nil {
		return nil, err
	}
	argv, ok := c.allow.match(p.Argv)
	if !ok {
		return nil, handlers.Reject("the agent does not allow this command: add %s to handlers.command.allow in its configuration (\"*\" stands for any one argument)", advice(p.Argv))
	}
	return argv, nil
}
