package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// stopTimeout is how long a program may take to stop.
const stopTimeout = 60 * time.Second

// process is a program under test.
type process struct {
	cmd  *exec.Cmd
	log  *syncbuffer.Buffer
	done chan struct{}
}

// startProgram runs a program of this module until the test ends, and prints its log if the
// test fails.
func startProgram(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(filepath.Join(programs, program), args...)) //nolint:gosec // programs of this module
}

// startCommand does the same for a command.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, log: &syncbuffer.Buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.signal(t, syscall.SIGTERM)
		p.signal(t, syscall.SIGCONT) // a failed test may have left it frozen
		select {
		case <-p.done:
		case <-time.After(stopTimeout):
			p.kill(t)
			t.Errorf("%s did not stop within %s of SIGTERM", cmd.Path, stopTimeout)
		}
		if t.Failed() {
			t.Logf("log of %v:\n%s", cmd.Args, p.log)
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal %s: %v", p.cmd.Path, err)
	}
}

// freeze suspends the process until thaw. It waits until all threads are suspended, because
// signals are asynchronous.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	wait.For(t, p.cmd.Path+" to be suspended", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(file string) bool {
			stat, err := os.ReadFile(file) //nolint:gosec // below /proc
			state := stat[bytes.LastIndexByte(stat, ')')+1:]
			return err == nil && !bytes.HasPrefix(state, []byte(" T"))
		})
	})
}

func (p *process) thaw(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGCONT)
}

// kill kills the process and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.done
}

// stop sends SIGTERM and waits for the end of the process.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		t.Fatalf("%s did not stop within %s of SIGTERM:\n%s", p.cmd.Path, stopTimeout, p.log)
	}
}
