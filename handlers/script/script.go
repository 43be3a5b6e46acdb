package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Options are what the agent decides.
type Options struct {
	// Directory is where the scripts are; it need not exist.
	Directory string
	// Runner runs the scripts.
	Runner *process.Runner
	// Records say which tasks can be undone.
	Snapshots *snapshot.Store
	Log       *slog.Logger
}

// Handler runs scripts. It also lists them, and knows their restart contracts.
type Handler struct {
	dir     directory
	runner  *process.Runner
	records *snapshot.Store
	log     *slog.Logger

	mu sync.Mutex
	// warned is what Scripts has logged last, so that it is not logged at each
	// heartbeat.
	warned string
}

// New makes the handler.
func New(o Options) *Handler {
	return &Handler{dir: directory(o.Directory), runner: o.Runner, records: o.Snapshots, log: o.Log}
}

// Info describes the handler.
func (*Handler) Info() handlers.Info { return Info() }

// Info describes the handler. The payload may be anything, and what can be planned
// and undone depends on the type: the script decides.
func Info() handlers.Info {
	return handlers.Info{
		Name:      tasker.ScriptHandler,
		Summary:   "Runs the executable that is named as the task type, with the payload on stdin.",
		CanDryRun: true,
		CanUndo:   true,
	}
}

// Scripts lists the task types for which there is a script now.
func (h *Handler) Scripts() []string {
	types, problems := h.dir.list()
	now := ""
	if err := errors.Join(problems...); err != nil {
		now = err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now != h.warned {
		for _, err := range problems {
			h.log.Warn("a script is not offered", "directory", string(h.dir), "error", err)
		}
		h.warned = now
	}
	return types
}

// RestartOf is the restart contract of the script for a task type.
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
	switch call.Action {
	case tasker.DryRun:
		if !s.plan {
			return handlers.Result{Value: note{Plan: true, Note: fmt.Sprintf("checked only: the script makes no plan; one that does says %q in its header", "plan=yes")}}, nil
		}
		return h.run(ctx, s, call)
	case tasker.Undo:
		return h.undo(ctx, s, call)
	}
	// Kept for every script: it may learn to undo what it did before.
	if err := h.records.Save(call.TaskID, record{Type: call.Type}); err != nil {
		return handlers.Result{}, err
	}
	result, err := h.run(ctx, s, call)
	var start *process.StartError
	if errors.As(err, &start) {
		err = errors.Join(err, h.records.Delete(call.TaskID))
	}
	return result, err
}

// record says that the script was started for a task; what it changed is its own
// affair.
type record struct {
	Type string `json:"type"`
}

// note is the result of a plan or an undo for which nothing was run.
type note struct {
	Plan    bool   `json:"plan,omitempty"`
	Changed *bool  `json:"changed,omitempty"`
	Note    string `json:"note"`
}

func (h *Handler) undo(ctx context.Context, s script, call handlers.Call) (handlers.Result, error) {
	if !s.undo {
		return handlers.Result{}, handlers.Reject("the script %s cannot undo its tasks; once it does so for TASKER_ACTION=undo, say so in its header: # tasker: restart=%s undo=yes", s.path, s.restart)
	}
	switch err := h.records.Load(call.Undoes, &record{}); {
	case errors.Is(err, snapshot.ErrNotFound):
		return handlers.Result{Value: note{Changed: new(bool), Note: "nothing to undo: the task has run nothing here, was undone, or is too long ago"}}, nil
	case err != nil:
		return handlers.Result{}, err
	}
	result, err := h.run(ctx, s, call)
	if err == nil {
		err = h.records.Delete(call.Undoes)
	}
	return result, err
}

func (h *Handler) run(ctx context.Context, s script, call handlers.Call) (handlers.Result, error) {
	output := &synced{w: call.Output}
	stdout := &directives{out: output, progress: call.Progress}
	stderr := &process.Tail{Out: output}
	exit, err := h.runner.Run(ctx, process.Spec{
		Argv:          []string{s.path},
		Env:           process.Environ(call, environ(call)),
		Dir:           filepath.Dir(s.path),
		Stdin:         bytes.NewReader(call.Payload),
		Stdout:        stdout,
		Stderr:        stderr,
		RecordProcess: call.RecordProcess,
	})
	err = errors.Join(err, stdout.flush())
	var start *process.StartError
	if errors.As(err, &start) || errors.Is(err, process.ErrSupervisorLost) {
		return handlers.Result{}, err
	}
	result := handlers.Result{ExitCode: &exit.Code}
	if stdout.result != nil {
		result.Value = stdout.result
	}
	if err == nil {
		err = failure(exit, stderr.String(), stdout.err)
	}
	return result, err
}

// environ is what a script is told beside what every process is.
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

// failure is the error of a script that has ended by itself.
func failure(exit process.Exit, lastLine string, badResult error) error {
	switch err := exit.Err(); {
	case err == nil:
		return badResult
	case lastLine == "":
		return err
	case exit.Signal != 0:
		return fmt.Errorf("%w: %s", err, lastLine)
	default:
		return errors.New(lastLine)
	}
}

// synced lets stdout and stderr share one writer.
type synced struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
