package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopTimeout is how long a process may take to stop before it is killed.
const stopTimeout = 8 * time.Second

// fleet is the demo's processes and their directory.
type fleet struct {
	database, messageQueue string

	dir string
	// programs is the directory of the programs.
	programs string
	// processes are the control plane, then the agents.
	processes []*process
	// ended is called when a process has ended.
	ended context.CancelCauseFunc
}

// process is one program of the demo.
type process struct {
	name string
	cmd  *exec.Cmd
	// log is the path of its log.
	log  string
	done chan struct{}
}

// newFleet finds the programs, which are in the directory of this program, and makes the
// directory of the demo.
func newFleet(o Options, ended context.CancelCauseFunc) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the programs: %w", err)
	}
	f := &fleet{database: o.Database, messageQueue: o.MessageQueue, programs: filepath.Dir(self), ended: ended}
	for _, name := range []string{"tasker-controlplane", "tasker-agent"} {
		if _, err := os.Stat(filepath.Join(f.programs, name)); err != nil {
			return nil, fmt.Errorf("%s is not in the directory of %s; build all three programs with: make build", name, self)
		}
	}
	// This process becomes the parent of orphaned processes, see killOrphans.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the parent of orphaned processes: %w", err)
	}
	if f.dir, err = os.MkdirTemp("", "tasker-demo-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return f, nil
}

// initialize sets up the database and the broker if they are not the default ones.
func (f *fleet) initialize(ctx context.Context) error {
	if f.database == "" && f.messageQueue == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(f.programs, "tasker-controlplane"), "initialize", "--config", filepath.Join(f.dir, "controlplane.yaml")) //nolint:gosec // our own program
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set up the database and RabbitMQ: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts a program in a process group of its own. Ctrl-C on the terminal then
// reaches only this process, which stops the others in order. If this process is killed,
// the kernel ends the program. start must be called on the thread that lives as long as
// this process.
func (f *fleet) start(name, program, config string) (*process, error) {
	p := &process{name: name, log: filepath.Join(f.dir, strings.ReplaceAll(name, " ", "")+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	defer log.Close()
	p.cmd = exec.Command(filepath.Join(f.programs, program), "run", "--config", filepath.Join(f.dir, config)) //nolint:gosec // our own programs
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = f.dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	f.processes = append(f.processes, p)
	go func() {
		_ = p.cmd.Wait() // ProcessState holds how it ended
		close(p.done)
		f.ended(&ProcessError{Name: p.name, State: p.cmd.ProcessState.String(), Log: p.logTail()})
	}()
	return p, nil
}

// logTail returns the end of the process's log.
func (p *process) logTail() string {
	const lines = 15
	content, _ := os.ReadFile(p.log) // without a log, its end is empty
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}

// stop ends the agents, and then the control plane, which receives their last reports.
// Once kill is closed it kills all of them. No process and no file is left behind.
func (f *fleet) stop(kill <-chan struct{}) error {
	f.ended(nil) // from now on an ended process is no error
	for _, p := range slices.Backward(f.processes) {
		if p != f.processes[0] {
			p.signal(syscall.SIGTERM)
		}
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	for _, p := range slices.Backward(f.processes) {
		if p == f.processes[0] {
			p.signal(syscall.SIGTERM)
			timeout.Reset(stopTimeout)
		}
		select {
		case <-p.done:
		case <-kill:
		case <-timeout.C:
			timeout.Reset(0)
		}
	}
	for _, p := range f.processes {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	return errors.Join(killOrphans(), os.RemoveAll(f.dir))
}

// signal sends a signal to the process and its group.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // another process may have its id by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may just have ended
	}
}
