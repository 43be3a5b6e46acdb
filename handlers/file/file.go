package file

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Name is the handler's name.
const Name = "file"

// Options configure the handler.
type Options struct {
	// Allow lists the absolute paths of the directories in which files may be written.
	Allow []string
	// Commands is the allow-list of the command handler; it also applies to validate.
	Commands command.AllowList
	// Runner runs the validate command.
	Runner *process.Runner
	// Snapshots keeps the old files, for an undo.
	Snapshots *snapshot.Store
}

// Payload is the payload of a task.
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

// absent is the state that removes the file; the default is present.
const absent = "absent"

// Outcome is the value of the result.
type Outcome struct {
	Changed bool   `json:"changed"`
	DryRun  bool   `json:"plan,omitempty"`
	Path    string `json:"path"`
	// From and To describe the file before and after; nil if it does not exist.
	From *State `json:"from"`
	To   *State `json:"to"`
	// Diff is a unified diff from From to To.
	Diff string `json:"diff,omitempty"`
	// Backup is the path of the backup.
	Backup string `json:"backup,omitempty"`
	// Note has remarks: why there is no diff or no change, other hard links, and processes
	// that were ended.
	Note string `json:"note,omitempty"`
}

// State describes a file.
type State struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Owner  string `json:"owner"`
	Group  string `json:"group"`
	Mode   string `json:"mode"`
}

//go:embed payload.schema.json
var payloadSchema []byte

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Writes or removes a file in a directory that the agent's configuration allows.",
		Restart:   handlers.RestartRetry,
		CanDryRun: true,
		CanUndo:   true,
		Schema:    payloadSchema,
		Check:     handlers.CheckOf(check),
	}
}

// New returns the handler. It returns an error that names the invalid entry of the
// allow-list.
func New(o Options) (handlers.Handler, error) {
	for i, dir := range o.Allow {
		if !isPlainPath(dir) {
			return nil, fmt.Errorf("handlers.file: allow[%d]: %q is not the plain absolute path of a directory, without '.', '..' or double slashes", i, dir)
		}
	}
	w := &writer{dirs: o.Allow, commands: o.Commands, runner: o.Runner, snapshots: o.Snapshots, locks: fileLocks{locked: map[string]chan struct{}{}}}
	return handlers.Typed(Info(), w.handle), nil
}

// writer is the handler.
type writer struct {
	dirs      allowedDirs
	commands  command.AllowList
	runner    *process.Runner
	snapshots *snapshot.Store
	locks     fileLocks
}

func (w *writer) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	s := spec{Payload: p}
	var err error
	if call.Action != tasker.Undo { // An undo needs the path only.
		if s, err = w.newSpec(p, call); err != nil {
			return handlers.Result{}, err
		}
	}
	t, err := w.dirs.open(p.Path)
	if err != nil {
		return handlers.Result{}, err
	}
	defer t.close()
	unlock, err := w.locks.lock(ctx, t.key(), call)
	if err != nil {
		return handlers.Result{}, err
	}
	defer unlock()
	current, err := t.read(t.name)
	if err != nil {
		return handlers.Result{}, err
	}
	a := &assignment{writer: w, call: call, spec: s, target: t, current: current}
	var outcome Outcome
	switch call.Action {
	case tasker.DryRun:
		outcome, err = a.dryRun()
	case tasker.Undo:
		outcome, err = a.undo()
	default:
		outcome, err = a.perform(ctx)
	}
	return handlers.Result{Value: outcome}, err
}
