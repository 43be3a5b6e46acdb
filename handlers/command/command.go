package command

import (
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Name is the handler's name.
const Name = "command"

// Options are what the agent decides.
type Options struct {
	// Allow is the allow-list; see the package comment.
	Allow [][]string
	// Runner runs the commands.
	Runner *process.Runner
	// Records say which tasks can be undone.
	Snapshots *snapshot.Store
}

// Payload is what a task asks for. Plan, Undo and Unless are argument vectors like
// Argv: they must be allowed too, and get Env, Cwd and Stdin as well.
type Payload struct {
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env,omitempty"`
	Cwd     string            `json:"cwd,omitempty"`
	Stdin   string            `json:"stdin,omitempty"`
	Creates string            `json:"creates,omitempty"`
	Unless  []string          `json:"unless,omitempty"`
	Plan    []string          `json:"plan,omitempty"`
	Undo    []string          `json:"undo,omitempty"`
}

// Outcome is the result's value. ExitCode is that of the last program that was run,
// if there was one.
type Outcome struct {
	Changed  bool `json:"changed"`
	ExitCode *int `json:"exit_code,omitempty"`
	Plan     bool `json:"plan,omitempty"`
	// Argv is, in a plan, what would be run.
	Argv []string `json:"argv,omitempty"`
	// Note says why nothing was run.
	Note string `json:"note,omitempty"`
}

// New makes the handler. The error names the entry of the allow-list that is
// wrong.
func New(o Options) (handlers.Handler, error) {
	allow, err := NewAllowList(o.Allow)
	if err != nil {
		return nil, err
	}
	c := command{allow: allow, runner: o.Runner, records: o.Snapshots}
	return handlers.Typed(Info(), c.handle), nil
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:         Name,
		Summary:      "Runs a program that the agent's allow-list names, without a shell.",
		CanDryRun:    true,
		CanUndo:      true,
		UndoRequires: "undo",
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
    "stdin": {"description": "what the program reads", "type": "string"},
    "creates": {
      "description": "an absolute path; if it exists, nothing is run",
      "type": "string", "pattern": "^/", "maxLength": 4096
    },
    "unless": {
      "description": "a command, as argv; if it ends with exit code 0, argv is not run",
      "type": "array", "minItems": 1, "items": {"type": "string"}
    },
    "plan": {
      "description": "a command, as argv, that says what argv would change, and changes nothing",
      "type": "array", "minItems": 1, "items": {"type": "string"}
    },
    "undo": {
      "description": "a command, as argv, that brings back what was there before argv",
      "type": "array", "minItems": 1, "items": {"type": "string"}
    }
  },
  "required": ["argv"],
  "additionalProperties": false
}`),
	}
}
