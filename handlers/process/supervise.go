package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supervise is the main function of the supervisor. A program calls it at the top of main,
// before any other setup, if its first argument is "supervise". The other arguments only
// identify the task in the process list.
//
// Supervise returns the exit code. A test binary must pass it to syscall.Exit, because
// os.Exit waits a second or more for the race detector.
func Supervise([]string) int {
	// The parent-death signal is bound to the thread that starts the command. The main
	// thread lives as long as the process.
	runtime.LockOSThread()
	// The command inherits only stdin, stdout and stderr.
	if unix.CloseRange(requestFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		unix.CloseOnExec(requestFD)
		unix.CloseOnExec(reportFD)
	}
	requests, out := os.NewFile(requestFD, "request"), os.NewFile(reportFD, "report")
	reports := json.NewEncoder(out)

	var req request
	if err := json.NewDecoder(requests).Decode(&req); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0 // The agent ended or the task was cancelled before the command started.
		}
		fmt.Fprintln(os.Stderr, "tasker-agent starts supervise itself; do not run it by hand:", err)
		return 2
	}
	if err := supervise(req, requests, reports); err != nil {
		// The runner is gone, so the exit code is the only report.
		return 1
	}
	return 0
}

func supervise(req request, requests io.Reader, reports *json.Encoder) error {
	if err := errors.Join(
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
		os.WriteFile("/proc/self/comm", []byte("tasker-supervis"), 0),
	); err != nil {
		return reports.Encode(report{Failed: &failure{What: "become the subreaper: " + err.Error()}})
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	command, cgroup, failed := start(req)
	if failed != nil {
		return reports.Encode(report{Failed: failed})
	}
	// Even a command that has ended can be identified: nothing reaps it before t.reap.
	started, err := identify(command)
	started.PID, started.Cgroup = command, cgroup
	t := &tree{command: command, cgroup: cgroup, grace: req.Grace.D(), signals: signals}
	exits := t.reap()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		// An error means that the agent has ended, as EOF does.
		_, _ = io.Copy(io.Discard, requests)
	}()
	err = errors.Join(err, releaseStdio(), reports.Encode(report{Started: &started}))
	end := t.wait(closed, exits)
	return errors.Join(err, removeCgroup(cgroup), reports.Encode(report{Ended: &end}))
}

// start starts the command, in the cgroup of the request if that is possible. It returns the
// cgroup in which the command runs.
func start(req request) (pid int, cgroup string, failed *failure) {
	attr := &syscall.ProcAttr{
		Dir:   req.Dir,
		Env:   req.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if fi, err := os.Stat(req.Dir); err != nil {
		return 0, "", newFailure("cwd "+req.Dir, err)
	} else if !fi.IsDir() {
		return 0, "", newFailure("cwd "+req.Dir, syscall.ENOTDIR)
	}
	if req.Cgroup != "" {
		if dir, err := os.Open(req.Cgroup); err == nil {
			defer dir.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
			if pid, err = forkExec(req.Argv, attr); err == nil {
				return pid, req.Cgroup, nil
			}
			// The kernel or a container's filter may forbid the cgroup. That error cannot be
			// distinguished from an error of the command, so try again without a cgroup.
			attr.Sys.UseCgroupFD = false
		}
	}
	pid, err := forkExec(req.Argv, attr)
	if err != nil {
		what := "start " + req.Argv[0]
		if why := explainStart(req.Argv[0], err); why != "" {
			what += ": " + why
		}
		return 0, "", newFailure(what, err)
	}
	return pid, "", nil
}

// forkExec waits up to a second for an executable that is still open for writing. A process
// that was forked while the file was written holds it open a moment longer.
func forkExec(argv []string, attr *syscall.ProcAttr) (int, error) {
	for delay := time.Millisecond; ; delay *= 2 {
		pid, err := syscall.ForkExec(argv[0], argv, attr)
		if !errors.Is(err, syscall.ETXTBSY) || delay > 512*time.Millisecond {
			return pid, err
		}
		<-time.After(delay)
	}
}

func newFailure(what string, err error) *failure {
	f := &failure{What: what}
	if !errors.As(err, &f.Errno) {
		f.What += ": " + err.Error()
	}
	return f
}

// releaseStdio closes the supervisor's copies of the command's pipes, so that a reader sees
// the end of a pipe when the command closes it.
func releaseStdio() error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var errs error
	for fd := range 3 {
		errs = errors.Join(errs, unix.Dup3(null, fd, 0))
	}
	return errors.Join(errs, unix.Close(null))
}
