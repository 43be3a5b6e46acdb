package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Runner runs commands. It is safe for concurrent use.
type Runner struct {
	// Supervisor is the argument vector that ends in a call of Supervise;
	// /proc/self/exe is this program even when its file has been replaced.
	// Empty is {"/proc/self/exe", "supervise"}.
	Supervisor []string
	// Grace is the time between SIGTERM and SIGKILL where a Spec names none;
	// zero is handlers.DefaultKillGrace.
	Grace time.Duration
	// Cgroup is the directory in which each command gets a cgroup v2 of its own,
	// as found by CgroupRoot; empty is none.
	Cgroup string
	// Log is mandatory.
	Log *slog.Logger
}

// Spec is one command.
type Spec struct {
	// Argv is the command; its first element is the path of the executable, with
	// a slash in it. It is never looked up.
	Argv []string
	// Env is the whole environment, as made by Environ. Its TASKER_TASK_ID and
	// TASKER_ENDPOINT are what leftovers are known by.
	Env []string
	// Dir is the working directory; empty is /.
	Dir string
	// Stdin is read to its end, or until the command has ended; its Read must not
	// block for long. nil is empty.
	Stdin io.Reader
	// Stdout and Stderr get the output; nil discards it. If both are the same
	// writer, the order of what is written is kept, and only one goroutine at a
	// time calls Write.
	Stdout, Stderr io.Writer
	// Spawned, if not nil, is called twice: with the supervisor before the
	// command is started, and with the command right after. An error ends the
	// tree and is returned by Run.
	RecordProcess func(handlers.Process) error
	// Grace is the time between SIGTERM and SIGKILL; zero is the Runner's.
	Grace time.Duration
}

// Exit is how a command ended.
type Exit struct {
	// Code is the exit code; 128 and the signal's number, if it was killed.
	Code int
	// Signal is what killed it, or zero.
	Signal syscall.Signal
}

// Err is nil for exit code 0, and otherwise says "exit code 3" or "killed by
// SIGKILL".
func (e Exit) Err() error {
	switch {
	case e.Signal != 0:
		return fmt.Errorf("killed by %s", signalName(e.Signal))
	case e.Code != 0:
		return fmt.Errorf("exit code %d", e.Code)
	}
	return nil
}

// StartError says that a command could not be started. It wraps the
// syscall.Errno, so that errors.Is(err, fs.ErrNotExist) and the like work.
type StartError struct {
	// What names the executable or the directory.
	What string
	Err  error
}

// Error says what could not be started, and why.
func (e *StartError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// ErrSupervisorLost: the supervisor was killed, so how the command ended is not
// known. What it had started has been ended.
var ErrSupervisorLost = errors.New("the supervisor of the command was killed")

// Run starts a command and returns when it and all its descendants are gone.
//
// The error is nil if the command ended by itself, with whatever exit code, and
// a *StartError if it was never started. If ctx ended it, the error is
// context.Cause(ctx), and Exit still says how it ended.
func (r *Runner) Run(ctx context.Context, spec Spec) (Exit, error) {
	if ctx.Err() != nil {
		return Exit{}, context.Cause(ctx)
	}
	if len(spec.Argv) == 0 || filepath.Base(spec.Argv[0]) == spec.Argv[0] {
		return Exit{}, &StartError{What: "start a command", Err: errors.New("argv begins with no path")}
	}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	grace := spec.Grace
	if grace == 0 {
		grace = r.grace()
	}
	cgroup := r.makeCgroup()
	run, err := r.startSupervisor(spec)
	if err != nil {
		return Exit{}, errors.Join(fmt.Errorf("start the supervisor: %w", err), removeCgroup(cgroup))
	}
	defer func() { _ = run.close() }() // Whatever was to be read has been.

	// What is recorded first is enough to find all that follows.
	supervisor, err := identify(run.cmd.Process.Pid)
	supervisor.Cgroup = cgroup
	run.processes = append(run.processes, supervisor)
	if err = errors.Join(err, spawned(spec, supervisor)); err == nil {
		err = run.send(request{Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir, Grace: tasker.Duration(grace), Cgroup: cgroup})
	}
	if err != nil {
		run.stop()
	}
	stopOnDone := context.AfterFunc(ctx, run.stop)
	defer stopOnDone()

	end, followErr := run.follow(spec)
	waitErr := run.cmd.Wait()
	err = errors.Join(err, followErr)
	if end == nil && err == nil {
		err = errors.Join(ErrSupervisorLost, waitErr)
	}
	if end == nil {
		left := Leftovers{Endpoint: lookup(spec.Env, envEndpoint), Log: r.Log}
		err = errors.Join(err, left.sweep(context.WithoutCancel(ctx), run.processes, lookup(spec.Env, envTaskID)))
	}
	err = errors.Join(err, run.drain())
	if rm := removeCgroup(cgroup); rm != nil {
		r.Log.Warn("a cgroup cannot be removed", "cgroup", cgroup, "error", rm)
	}
	if end == nil {
		return Exit{}, err
	}
	switch {
	case err != nil || !end.Forced:
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = errors.New("the command's supervisor was told by a signal to end it")
	}
	return exitOf(end.Status), err
}

func (r *Runner) grace() time.Duration {
	if r.Grace == 0 {
		return handlers.DefaultKillGrace
	}
	return r.Grace
}

func (r *Runner) makeCgroup() string {
	if r.Cgroup == "" {
		return ""
	}
	dir, err := makeCgroup(r.Cgroup)
	if err != nil {
		r.Log.Warn("a command runs without a cgroup of its own", "error", err)
	}
	return dir
}

func exitOf(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return Exit{Code: ws.ExitStatus()}
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

func spawned(spec Spec, p handlers.Process) error {
	if spec.RecordProcess == nil {
		return nil
	}
	if err := spec.RecordProcess(p); err != nil {
		return fmt.Errorf("record the process: %w", err)
	}
	return nil
}
