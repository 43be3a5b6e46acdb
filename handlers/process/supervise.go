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

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// The supervisor's ends of the pipes to the runner. A request comes in, and
// then nothing until the pipe is closed, which means: end the tree.
const (
	requestFD = 3
	reportFD  = 4
)

// request is what the runner tells the supervisor.
type request struct {
	Argv   []string        `json:"argv"`
	Env    []string        `json:"env"`
	Dir    string          `json:"dir"`
	Grace  tasker.Duration `json:"grace"`
	Cgroup string          `json:"cgroup,omitempty"`
}

// report is what the supervisor tells the runner: Started or Failed, and after
// Started, when the tree is gone, Ended.
type report struct {
	Started *handlers.Process `json:"started,omitempty"`
	Failed  *failure          `json:"failed,omitempty"`
	Ended   *ending           `json:"ended,omitempty"`
}

type failure struct {
	What  string        `json:"what"`
	Errno syscall.Errno `json:"errno"`
}

type ending struct {
	// Status is that of the command.
	Status syscall.WaitStatus `json:"status"`
	// Forced: the command had not ended by itself when the tree was to end.
	Forced bool `json:"forced"`
}

// Supervise is the supervisor's whole program, to be called at the top of main,
// before anything else is set up, when the first argument says so. Its own
// arguments only tell people who look at the process list what it is for. It
// returns the exit code, which a test binary hands to syscall.Exit: at os.Exit
// the race detector waits for a second or more.
func Supervise([]string) int {
	// The command is told of its parent's death by the thread that started it, so
	// that must be the main one, which lives as long as the process.
	runtime.LockOSThread()
	// The command gets stdin, stdout and stderr only, not even what the agent was
	// started with by mistake.
	if unix.CloseRange(requestFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		unix.CloseOnExec(requestFD)
		unix.CloseOnExec(reportFD)
	}
	in, out := os.NewFile(requestFD, "request"), os.NewFile(reportFD, "report")
	reports := json.NewEncoder(out)

	var req request
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0 // There is nothing to do: the agent is gone, or has thought better of it.
		}
		fmt.Fprintln(os.Stderr, "supervise is started by tasker-agent itself, not by people:", err)
		return 2
	}
	if err := supervise(req, in, reports); err != nil {
		// Nobody is left to be told but the exit code: the runner is gone.
		return 1
	}
	return 0
}

func supervise(req request, in io.Reader, reports *json.Encoder) error {
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
	// It cannot have been reaped before reap is called, so it is there to be read.
	started, err := identify(command)
	started.PID, started.Cgroup = command, cgroup
	t := &tree{command: command, cgroup: cgroup, grace: req.Grace.D(), stop: signals}
	ended := t.reap()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		// An error is the end of the agent, as EOF is.
		_, _ = io.Copy(io.Discard, in)
	}()
	err = errors.Join(err, releaseStdio(), reports.Encode(report{Started: &started}))
	end := t.wait(closed, ended)
	return errors.Join(err, removeCgroup(cgroup), reports.Encode(report{Ended: &end}))
}

func start(req request) (pid int, cgroup string, failed *failure) {
	attr := &syscall.ProcAttr{
		Dir:   req.Dir,
		Env:   req.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if fi, err := os.Stat(req.Dir); err != nil {
		return 0, "", fail("cwd "+req.Dir, err)
	} else if !fi.IsDir() {
		return 0, "", fail("cwd "+req.Dir, syscall.ENOTDIR)
	}
	if req.Cgroup != "" {
		if dir, err := os.Open(req.Cgroup); err == nil {
			defer dir.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
			if pid, err = forkExec(req.Argv, attr); err == nil {
				return pid, req.Cgroup, nil
			}
			// A kernel or a container's filter may not let it into the cgroup, which
			// cannot be told from the command's own errors: once more without.
			attr.Sys.UseCgroupFD = false
		}
	}
	pid, err := forkExec(req.Argv, attr)
	if err != nil {
		what := "start " + req.Argv[0]
		if _, stat := os.Stat(req.Argv[0]); stat == nil && errors.Is(err, syscall.ENOENT) {
			what += ": the interpreter that its first line names"
		}
		return 0, "", fail(what, err)
	}
	return pid, "", nil
}

// forkExec waits up to a second for a file that somebody still has open for
// writing: one that was only just put there is often held a moment longer by a
// process forked meanwhile.
func forkExec(argv []string, attr *syscall.ProcAttr) (int, error) {
	for delay := time.Millisecond; ; delay *= 2 {
		pid, err := syscall.ForkExec(argv[0], argv, attr)
		if !errors.Is(err, syscall.ETXTBSY) || delay > 512*time.Millisecond {
			return pid, err
		}
		<-time.After(delay)
	}
}

func fail(what string, err error) *failure {
	f := &failure{What: what}
	if !errors.As(err, &f.Errno) {
		f.What += ": " + err.Error()
	}
	return f
}

// releaseStdio lets go of the command's pipes, so that whoever reads them sees
// their end when the command closes them.
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
