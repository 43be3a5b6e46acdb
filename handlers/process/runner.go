package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Runner runs commands. It is safe for concurrent use.
type Runner struct {
	// Supervisor is the argument vector of a program that calls Supervise. The default is
	// {"/proc/self/exe", "supervise"}, which is this program even after its file was
	// replaced.
	Supervisor []string
	// Grace is the time between SIGTERM and SIGKILL for a Spec without a Grace. The default
	// is handlers.DefaultKillGrace.
	Grace time.Duration
	// Cgroup is the directory in which each command gets its own cgroup v2; see
	// FindCgroupRoot. If it is empty, commands run without their own cgroup.
	Cgroup string
	// Log is required.
	Log *slog.Logger
}

// Spec describes one command.
type Spec struct {
	// Argv is the argument vector. Its first element is the path of the executable and
	// contains a slash: it is not looked up in PATH.
	Argv []string
	// Env is the whole environment, as returned by Environ. Leftovers finds the command's
	// processes by TASKER_TASK_ID and TASKER_ENDPOINT.
	Env []string
	// Dir is the working directory. The default is /.
	Dir string
	// Stdin is read until it or the command ends. Its Read must not block for long. nil
	// means an empty input.
	Stdin io.Reader
	// Stdout and Stderr receive the output; nil discards it. If both are the same writer,
	// the order of the output is kept and only one goroutine at a time calls Write.
	Stdout, Stderr io.Writer
	// RecordProcess, if not nil, is called twice: with the supervisor before the command
	// starts, and with the command right after its start. An error ends the process tree,
	// and Run returns it.
	RecordProcess func(handlers.Process) error
	// Grace is the time between SIGTERM and SIGKILL. The default is Runner.Grace.
	Grace time.Duration
}

// record calls RecordProcess.
func (s Spec) record(p handlers.Process) error {
	if s.RecordProcess == nil {
		return nil
	}
	if err := s.RecordProcess(p); err != nil {
		return fmt.Errorf("record the process: %w", err)
	}
	return nil
}

// Run starts a command and returns when the command and all its descendants have ended.
//
// The error is nil if the command ended by itself with any exit code, and a *StartError if
// the command was not started. If ctx ended the command, the error is context.Cause(ctx) and
// Exit is still valid.
func (r *Runner) Run(ctx context.Context, spec Spec) (Exit, error) {
	if ctx.Err() != nil {
		return Exit{}, context.Cause(ctx)
	}
	if len(spec.Argv) == 0 || filepath.Base(spec.Argv[0]) == spec.Argv[0] {
		return Exit{}, &StartError{What: "start a command", Err: errors.New("argv does not begin with a path")}
	}
	spec.Dir = cmp.Or(spec.Dir, "/")
	cgroup := r.newCgroup()
	s, err := startSupervisor(r.Supervisor, spec)
	if err != nil {
		return Exit{}, errors.Join(fmt.Errorf("start the supervisor: %w", err), removeCgroup(cgroup))
	}
	defer func() { _ = s.close() }() // All output was read.

	err = s.begin(request{
		Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir, Cgroup: cgroup,
		Grace: tasker.Duration(cmp.Or(spec.Grace, r.Grace, handlers.DefaultKillGrace)),
	})
	if err != nil {
		s.endTree()
	}
	cancelStop := context.AfterFunc(ctx, s.endTree)
	defer cancelStop()
	end, followErr := s.follow()
	waitErr := s.cmd.Wait()
	if err = errors.Join(err, followErr); end == nil {
		if err == nil {
			err = errors.Join(ErrSupervisorLost, waitErr)
		}
		left := Leftovers{Endpoint: lookup(spec.Env, envEndpoint), Log: r.Log}
		err = errors.Join(err, left.sweep(context.WithoutCancel(ctx), s.processes, lookup(spec.Env, envTaskID)))
	}
	err = errors.Join(err, s.streams.finish())
	if removeErr := removeCgroup(cgroup); removeErr != nil {
		r.Log.Warn("cannot remove a cgroup", "cgroup", cgroup, "error", removeErr)
	}
	if end == nil {
		return Exit{}, err
	}
	if err == nil && end.Forced {
		if err = context.Cause(ctx); err == nil {
			err = errors.New("the supervisor of the command received a signal to end it")
		}
	}
	return exitOf(end), err
}

// newCgroup returns a new cgroup for a command, or "" if there can be none.
func (r *Runner) newCgroup() string {
	if r.Cgroup == "" {
		return ""
	}
	dir, err := makeCgroup(r.Cgroup)
	if err != nil {
		r.Log.Warn("a command runs without its own cgroup", "error", err)
	}
	return dir
}
