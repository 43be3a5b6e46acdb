package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// patience is a time that only a broken program needs.
const patience = 60 * time.Second

// process is one of our programs under test.
type process struct {
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
}

// start runs a program until the test ends; its log is shown if the test fails.
func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{
		cmd:  exec.Command(filepath.Join(programs, program), args...), //nolint:gosec // our own programs
		log:  &lockedBuffer{},
		done: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.signal(t, syscall.SIGTERM)
		p.signal(t, syscall.SIGCONT) // a test that failed may have left it stopped
		select {
		case <-p.done:
		case <-time.After(patience):
			p.kill(t)
			t.Errorf("%s did not stop within %s of SIGTERM", program, patience)
		}
		if t.Failed() {
			t.Logf("log of %s %v:\n%s", program, args, p.log)
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

// freeze stops the process, all of it, until thaw: a signal is only on its way when it
// has been sent.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	wait.For(t, p.cmd.Path+" to stand still", func() bool {
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

// kill ends the process at once and waits for it.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.done
}

// stop ends the process as an operator would, and waits for it.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s did not stop within %s of SIGTERM:\n%s", p.cmd.Path, patience, p.log)
	}
}

// lockedBuffer collects what a process prints.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
