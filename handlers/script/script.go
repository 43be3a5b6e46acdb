package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// Options are what the agent decides.
type Options struct {
	// Directory is where the scripts are; it need not exist.
	Directory string
	// Runner runs the scripts.
	Runner *process.Runner
	Log    *slog.Logger
}

// Handler runs scripts. It also lists them, and knows their restart contracts.
type Handler struct {
	dir    directory
	runner *process.Runner
	log    *slog.Logger

	mu sync.Mutex
	// warned is what Scripts has logged last, so that it is not logged at each
	// heartbeat.
	warned string
}

// New makes the handler.
func New(o Options) *Handler {
	return &Handler{dir: directory(o.Directory), runner: o.Runner, log: o.Log}
}

// Info describes the handler.
func (*Handler) Info() handlers.Info { return Info() }

// Info describes the handler. The payload may be anything: the script decides.
func Info() handlers.Info {
	return handlers.Info{
		Name:    tasker.ScriptHandler,
		Summary: "Runs the executable that is named as the task type, with the payload on stdin.",
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
	output := &synced{w: call.Output}
	stdout := &directives{out: output, progress: call.Progress}
	stderr := &lastLine{out: output}
	env := map[string]string{"TASKER_RESUMED": "0"}
	if call.Resumed {
		env["TASKER_RESUMED"] = "1"
	}
	exit, err := h.runner.Run(ctx, process.Spec{
		Argv:    []string{s.path},
		Env:     process.Environ(call, env),
		Dir:     filepath.Dir(s.path),
		Stdin:   bytes.NewReader(call.Payload),
		Stdout:  stdout,
		Stderr:  stderr,
		Spawned: call.Spawned,
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
		err = failure(exit, stderr.text(), stdout.err)
	}
	return result, err
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
		return errors.New(strings.TrimSpace(lastLine))
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
