package file

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Name is the handler's name.
const Name = "file"

// Options are what the agent decides.
type Options struct {
	// Allow are the directories in which files may be written, by absolute paths.
	Allow []string
	// Commands is the allow-list of the handler command, for validate.
	Commands command.AllowList
	// Runner runs what validates.
	Runner *process.Runner
	// Records keep the old files.
	Snapshots *snapshot.Store
}

// Payload is what a task asks for.
type Payload struct {
	Path     string   `json:"path"`
	State    string   `json:"state,omitempty"`
	Content  *string  `json:"content,omitempty"`
	Template *string  `json:"template,omitempty"`
	Values   values   `json:"values,omitempty"`
	Owner    string   `json:"owner,omitempty"`
	Group    string   `json:"group,omitempty"`
	Mode     string   `json:"mode,omitempty"`
	Validate []string `json:"validate,omitempty"`
	Backup   bool     `json:"backup,omitempty"`
	Diff     bool     `json:"diff,omitempty"`
}

// absent is the state of a file that is to be removed; the other one is present.
const absent = "absent"

// Outcome is the result's value.
type Outcome struct {
	Changed bool   `json:"changed"`
	Plan    bool   `json:"plan,omitempty"`
	Path    string `json:"path"`
	// From and To are the file before and after; nil is one that is not there.
	From *State `json:"from"`
	To   *State `json:"to"`
	// Diff is a unified diff from From to To.
	Diff string `json:"diff,omitempty"`
	// Backup is where the old file is.
	Backup string `json:"backup,omitempty"`
	// Note says why there is no diff, or why nothing was done.
	Note string `json:"note,omitempty"`
}

// State is what is said of a file.
type State struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Owner  string `json:"owner"`
	Group  string `json:"group"`
	Mode   string `json:"mode"`
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Writes or removes a file in a directory that the agent's configuration allows.",
		Restart:   handlers.RestartRetry,
		CanDryRun: true,
		CanUndo:   true,
		Schema: []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "path": {
      "description": "the file, by its absolute path, in a directory that exists",
      "type": "string", "pattern": "^/.*[^/]$", "maxLength": 4096
    },
    "state": {"description": "present if left out", "enum": ["present", "absent"]},
    "content": {"description": "what is in the file", "type": "string"},
    "template": {
      "description": "what is in the file, where {{.name}} is a value, {{.name.part}} one of an object, {{endpoint}} the server and {{identifier}} the task's identifier",
      "type": "string"
    },
    "values": {"description": "the values of the template", "type": "object"},
    "owner": {
      "description": "the user to whom it belongs, by name or number; as before, or the agent's user, if left out",
      "type": "string", "minLength": 1, "maxLength": 256
    },
    "group": {
      "description": "its group, by name or number; as before, or that of new files in the directory, if left out",
      "type": "string", "minLength": 1, "maxLength": 256
    },
    "mode": {
      "description": "its permissions, in octal; as before, or 0644, if left out",
      "type": "string", "pattern": "^0[0-7]{3}$"
    },
    "validate": {
      "description": "a command, as argv, in which one element is {}, the path of the new file; the file is put in place if it ends with exit code 0",
      "type": "array", "minItems": 2, "items": {"type": "string"}
    },
    "backup": {"description": "keep the old file beside it, as PATH.tasker-bak", "type": "boolean"},
    "diff": {"description": "the result has the diff even if others cannot read the file", "type": "boolean"}
  },
  "required": ["path"],
  "additionalProperties": false
}`),
	}
}

// New makes the handler. The error names the entry of the allow-list that is wrong.
func New(o Options) (handlers.Handler, error) {
	for i, dir := range o.Allow {
		if !plain(dir) {
			return nil, fmt.Errorf("handlers.file: allow[%d]: %q is not the plain absolute path of a directory, without '.', '..' and double slashes", i, dir)
		}
	}
	w := &writer{trees: o.Allow, commands: o.Commands, runner: o.Runner, records: o.Snapshots, turns: turns{busy: map[string]chan struct{}{}}}
	return handlers.Typed(Info(), w.handle), nil
}

type writer struct {
	trees    trees
	commands command.AllowList
	runner   *process.Runner
	records  *snapshot.Store
	turns    turns
}

func (w *writer) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	o := order{Payload: p}
	var err error
	if call.Action != tasker.Undo { // for which the path says it all
		if o, err = w.check(p, call); err != nil {
			return handlers.Result{}, err
		}
	}
	at, err := w.trees.open(p.Path)
	if err != nil {
		return handlers.Result{}, err
	}
	defer at.close()
	leave, err := w.turns.take(ctx, at.key(), call)
	if err != nil {
		return handlers.Result{}, err
	}
	defer leave()
	now, err := at.read(at.name)
	if err != nil {
		return handlers.Result{}, err
	}
	j := &job{writer: w, call: call, order: o, at: at, now: now}
	var outcome Outcome
	switch call.Action {
	case tasker.Plan:
		outcome, err = j.plan()
	case tasker.Undo:
		outcome, err = j.undo()
	default:
		outcome, err = j.perform(ctx)
	}
	return handlers.Result{Value: outcome}, err
}
