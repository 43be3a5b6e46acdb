package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Options configure the handler.
type Options struct {
	// Directory contains the scripts. It need not exist.
	Directory string
	// Runner runs the scripts.
	Runner *process.Runner
	// Snapshots records which tasks can be undone.
	Snapshots *snapshot.Store
	Log       *slog.Logger
}

// Handler runs scripts. It also reports which scripts there are and their restart contracts.
type Handler struct {
	dir       directory
	runner    *process.Runner
	snapshots *snapshot.Store
	log       *slog.Logger

	mu sync.Mutex
	// warned has the problems that Scripts logged last. Scripts is called for each heartbeat,
	// and must not log the same problems again.
	warned string
}

// New returns the handler.
func New(o Options) *Handler {
	return &Handler{dir: directory(o.Directory), runner: o.Runner, snapshots: o.Snapshots, log: o.Log}
}

// Info describes the handler.
func (*Handler) Info() handlers.Info { return Info() }

// Info describes the handler. It accepts any payload and action, because the script of each
// type decides what it supports.
func Info() handlers.Info {
	return handlers.Info{
		Name:      tasker.ScriptHandler,
		Summary:   "Runs the executable whose name is the task type, with the payload on stdin.",
		CanDryRun: true,
		CanUndo:   true,
	}
}

// Scripts returns the task types that have a script now.
func (h *Handler) Scripts() []string {
	types, problems := h.dir.list()
	warning := ""
	if err := errors.Join(problems...); err != nil {
		warning = err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if warning != h.warned {
		for _, err := range problems {
			h.log.Warn("a script cannot be run", "directory", string(h.dir), "error", err)
		}
		h.warned = warning
	}
	return types
}

// RestartOf returns the restart contract of the script for a task type.
func (h *Handler) RestartOf(taskType string) handlers.Restart {
	s, err := h.dir.find(taskType)
	if err != nil {
		return handlers.RestartNever
	}
	return s.restart
}

// Handle runs the script for the call's type.
func (h *Handler) Handle(ctx context.Context, call handlers.Call) (handlers.Result, error) {
	s, err := h.dir.find(call.Type)
	if err != nil {
		return handlers.Result{}, handlers.Reject("%v (directory %s)", err, h.dir)
	}
	if s.format != nil {
		return handlers.Result{}, handlers.Reject("%v (directory %s)", s.format, h.dir)
	}
	switch call.Action {
	case tasker.DryRun:
		if !s.canDryRun {
			return handlers.Result{Value: note{DryRun: true, Note: "not run: the script does not support dry runs; a script that does has \"plan=yes\" in its header"}}, nil
		}
		return h.run(ctx, s, call)
	case tasker.Undo:
		return h.undo(ctx, s, call)
	}
	// Every script gets a snapshot: a later version of it may support undo.
	if err := h.snapshots.Save(call.TaskID, startRecord{Type: call.Type}); err != nil {
		return handlers.Result{}, err
	}
	result, err := h.run(ctx, s, call)
	var start *process.StartError
	if errors.As(err, &start) {
		err = errors.Join(err, h.snapshots.Delete(call.TaskID))
	}
	return result, err
}

// startRecord is the snapshot of a task: it records that the script was started.
type startRecord struct {
	Type string `json:"type"`
}

// note is the result of a dry run or an undo for which the script was not run.
type note struct {
	DryRun  bool   `json:"plan,omitempty"`
	Changed *bool  `json:"changed,omitempty"`
	Note    string `json:"note"`
}

func (h *Handler) undo(ctx context.Context, s script, call handlers.Call) (handlers.Result, error) {
	if !s.canUndo {
		return handlers.Result{}, handlers.Reject("the script %s does not support undo; if it handles TASKER_ACTION=undo, add this to its header: # tasker: restart=%s undo=yes", s.path, s.restart)
	}
	switch err := h.snapshots.Load(call.Undoes, &startRecord{}); {
	case errors.Is(err, snapshot.ErrNotFound):
		return handlers.Result{Value: note{Changed: new(bool), Note: "nothing to undo: the task has run nothing here, was undone, or is too long ago"}}, nil
	case err != nil:
		return handlers.Result{}, err
	}
	result, err := h.run(ctx, s, call)
	if err == nil {
		err = h.snapshots.Delete(call.Undoes)
	}
	return result, err
}

func (h *Handler) run(ctx context.Context, s script, call handlers.Call) (handlers.Result, error) {
	stdout := &directiveParser{out: call.Output, progress: call.Progress}
	stderr := &process.Tail{Out: call.Output}
	exit, err := h.runner.Run(ctx, process.Spec{
		Argv:          []string{s.path},
		Env:           process.Environ(call, environ(call)),
		Dir:           filepath.Dir(s.path),
		Stdin:         bytes.NewReader(call.Payload),
		Stdout:        stdout,
		Stderr:        stderr,
		RecordProcess: call.RecordProcess,
	})
	err = errors.Join(err, stdout.endLine())
	var start *process.StartError
	if errors.As(err, &start) || errors.Is(err, process.ErrSupervisorLost) {
		return handlers.Result{}, err
	}
	result := handlers.Result{ExitCode: &exit.Code}
	if stdout.result != nil {
		result.Value = stdout.result
	}
	if note := exit.Remaining.Note(); note != "" {
		result.Value = addNote(stdout.result, note)
		fmt.Fprintln(call.Output, "tasker-agent:", note) // The result may have no place for it.
	}
	if err == nil {
		err = exitError(exit, stderr.String(), stdout.err)
	}
	return result, err
}

// addNote returns a script's result with a note. A result that has a note already, or that is
// not an object, stays as it is.
func addNote(result json.RawMessage, note string) any {
	fields := map[string]json.RawMessage{}
	if result != nil && (json.Unmarshal(result, &fields) != nil || fields == nil) || fields["note"] != nil {
		return result
	}
	quoted, err := json.Marshal(note)
	if err != nil {
		return result
	}
	fields["note"] = quoted
	extended, err := json.Marshal(fields)
	if err != nil || len(extended) > tasker.MaxResult {
		return result
	}
	return json.RawMessage(extended)
}

// environ returns the variables that a script gets in addition to those of process.Environ.
func environ(call handlers.Call) map[string]string {
	env := map[string]string{"TASKER_RESUMED": "0", "TASKER_ACTION": "perform", "TASKER_UNDOES": call.Undoes}
	if call.Resumed {
		env["TASKER_RESUMED"] = "1"
	}
	if call.Action != tasker.Perform {
		env["TASKER_ACTION"] = string(call.Action)
	}
	return env
}

// exitError returns the error of a script that has ended by itself.
func exitError(exit process.Exit, lastLine string, resultErr error) error {
	switch err := exit.Err(); {
	case err == nil:
		return resultErr
	case lastLine == "":
		return err
	case exit.Signal != 0:
		return fmt.Errorf("%w: %s", err, lastLine)
	default:
		return errors.New(lastLine)
	}
}
