package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

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
		case <-time.After(30 * time.Second):
			p.kill(t)
			t.Errorf("%s did not stop within 30 s of SIGTERM", program)
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
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not stop within 30 s of SIGTERM:\n%s", p.cmd.Path, p.log)
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

// eventually waits until ok says true and fails the test after a time that only
// a broken program needs.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the pause of a polling loop
	}
}
