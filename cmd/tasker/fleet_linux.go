package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The demo's processes get so long to stop before they are killed.
const stopPatience = 8 * time.Second

// sites are where the demo's programs listen.
type sites struct {
	api string
	// metrics are the agents', by endpoint.
	metrics map[string]string
	// taken tells people which usual port is taken, and what is used instead.
	taken []string
}

func (s sites) url() string { return "http://" + s.api }

// chooseSites takes the usual ports where they are free. They are held until all
// have been chosen, so that none is chosen twice.
func chooseSites(endpoints []string) (sites, error) {
	s := sites{metrics: map[string]string{}}
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	choose := func(port int, what string) (string, error) {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return "", fmt.Errorf("find a free port: %w", err)
			}
			_, other, _ := net.SplitHostPort(l.Addr().String())
			s.taken = append(s.taken, fmt.Sprintf("%d is taken: %s on %s", port, what, other))
		}
		held = append(held, l)
		return l.Addr().String(), nil
	}
	var err error
	if s.api, err = choose(8888, "the API is"); err != nil {
		return s, err
	}
	for i, name := range endpoints {
		if s.metrics[name], err = choose(9464+i, "the metrics of "+name+" are"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// ground is what the demo's fleet stands on; empty is the default.
type ground struct {
	// database and messageQueue are as in the control plane's configuration.
	database, messageQueue string
}

// fleet is the demo's processes and the directory with all that is theirs.
type fleet struct {
	ground
	dir       string
	programs  string
	processes []*process
	// ended is told when a process ends by itself.
	ended context.CancelCauseFunc
}

// process is one program of the demo.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// newFleet finds the programs, which are beside this one, and makes the directory.
func newFleet(on ground, ended context.CancelCauseFunc) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the programs: %w", err)
	}
	f := &fleet{ground: on, programs: filepath.Dir(self), ended: ended}
	for _, name := range []string{"tasker-controlplane", "tasker-agent"} {
		if _, err := os.Stat(filepath.Join(f.programs, name)); err != nil {
			return nil, fmt.Errorf("%s is not beside %s; build all three programs with: make build", name, self)
		}
	}
	// Whatever a child leaves behind becomes a child of this process, see sweep.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("adopt orphans: %w", err)
	}
	if f.dir, err = os.MkdirTemp("", "tasker-demo-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return f, nil
}

// configure writes the configurations and the script.
func (f *fleet) configure(s sites) error {
	_, port, err := net.SplitHostPort(s.api)
	if err != nil {
		return fmt.Errorf("read an address: %w", err)
	}
	files := map[string]string{"controlplane.yaml": fmt.Sprintf(`task_types: [ping, facts, command, {name: %s, handler: script, timeout: 1m}]
data_dir: %q
api: {port: %s}
database: {uri: %q}
message_queue: {uri: %q}
`, demoType, filepath.Join(f.dir, "controlplane"), port, cmp.Or(f.database, "sqlite:tasker.db"), f.messageQueue)}
	server := fmt.Sprintf("{uri: %q, token_file: %q}", s.url(), filepath.Join(f.dir, "controlplane", "agent.token"))
	if f.messageQueue != "" {
		server = fmt.Sprintf("{uri: %q}", f.messageQueue)
	}
	for name, address := range s.metrics {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("read an address: %w", err)
		}
		files[name+".yaml"] = fmt.Sprintf(`endpoint: %s
server: %s
data_dir: %q
labels: {role: loadbalancer}
metrics: {port: %s}
handlers:
  command: {allow: [[/usr/bin/uptime], [/bin/sleep, "*"]]}
  script: {directory: %q}
kill_grace: 2s
stop_timeout: 2s
`, name, server, filepath.Join(f.dir, name), port, filepath.Join(f.dir, "handlers.d"))
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write a configuration: %w", err)
		}
	}
	script := filepath.Join(f.dir, "handlers.d", demoType)
	if err := os.Mkdir(filepath.Dir(script), 0o700); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if err := os.WriteFile(script, updateApp, 0o700); err != nil { //nolint:gosec // it is to be executed
		return fmt.Errorf("write a script: %w", err)
	}
	return nil
}

// initialize sets up the database and the broker, where they are not the default.
func (f *fleet) initialize(ctx context.Context) error {
	if f.ground == (ground{}) {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(f.programs, "tasker-controlplane"), "initialize", "--config", filepath.Join(f.dir, "controlplane.yaml")) //nolint:gosec // our own program
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set up the database and RabbitMQ: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start runs a program in a process group of its own, so that Ctrl-C on the
// terminal reaches this process alone, which then stops the others in order. If
// this process is killed the kernel ends the program. It must be called from the
// one thread that lives as long as this process.
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
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
		f.ended(p.unexpected())
	}()
	return p, nil
}

// unexpected is the error of a process that ended by itself.
func (p *process) unexpected() error {
	return &exitError{
		code: codeUnreachable,
		err:  fmt.Errorf("%s ended by itself (%s); its log ends with\n%s", p.name, p.cmd.ProcessState, p.tail()),
	}
}

// tail is the end of the process's log.
func (p *process) tail() string {
	const lines = 15
	content, _ := os.ReadFile(p.log) // without it there is nothing to tell
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}

// stop ends the agents, then the control plane, which takes their last reports;
// all at once and by force when somebody is in a hurry. Nothing is left behind.
func (f *fleet) stop(hurry <-chan struct{}) error {
	f.ended(nil) // from here on they are meant to
	for _, p := range slices.Backward(f.processes) {
		if p != f.processes[0] {
			p.signal(syscall.SIGTERM)
		}
	}
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	for _, p := range slices.Backward(f.processes) {
		if p == f.processes[0] {
			p.signal(syscall.SIGTERM)
			patience.Reset(stopPatience)
		}
		select {
		case <-p.done:
		case <-hurry:
		case <-patience.C:
			patience.Reset(0)
		}
	}
	for _, p := range f.processes {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	return errors.Join(sweep(), os.RemoveAll(f.dir))
}

// signal reaches the process and its group.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its id may be somebody else's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may just have ended
	}
}

// sweep kills what the children left behind and has become a child of this
// process, until there is nothing more.
func sweep() error {
	for {
		for _, pid := range children() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
		}
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return nil
		case err != nil && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("wait for what was left behind: %w", err)
		case pid == 0: // killed, and not yet dead
			<-time.After(5 * time.Millisecond)
		}
	}
}

// children are the ids of this process's children.
func children() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, file := range stats {
		stat, err := os.ReadFile(file) //nolint:gosec // below /proc
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; state and parent follow.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
