package process

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// supervisor is the runner's side of one supervisor process.
type supervisor struct {
	spec Spec
	cmd  *exec.Cmd
	// processes are the supervisor and the command, as far as they were started.
	processes []handlers.Process
	// The supervisor ends the process tree when requests is closed. reports ends with the
	// supervisor.
	requests, reports *os.File
	streams           *streams
}

// startSupervisor starts a supervisor with the stdin and the output of the command. The
// supervisor then waits for a request.
func startSupervisor(argv []string, spec Spec) (*supervisor, error) {
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe", "supervise"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Args = append(cmd.Args, lookup(spec.Env, envTaskID))
	cmd.Dir = "/"
	// A supervisor does little and must need few resources.
	cmd.Env = []string{"GOMAXPROCS=2", "GOGC=off"}
	// Signals that a terminal sends to the agent's process group must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	s := &supervisor{spec: spec, cmd: cmd, streams: newStreams()}
	var p pipes
	defer p.closeChildEnds()
	err := s.connect(&p)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.streams.finish(), s.close())
	}
	return s, nil
}

// connect creates the pipes to the supervisor.
func (s *supervisor) connect(p *pipes) error {
	requests, childRequests, err := p.toChild()
	if err != nil {
		return err
	}
	s.requests = requests
	reports, childReports, err := p.fromChild()
	if err != nil {
		return err
	}
	s.reports = reports
	s.cmd.ExtraFiles = []*os.File{childRequests, childReports} // requestFD, reportFD
	if s.spec.Stdin != nil {
		ours, theirs, err := p.toChild()
		if err != nil {
			return err
		}
		s.cmd.Stdin = theirs
		s.streams.addInput(s.spec.Stdin, ours)
	}
	if s.cmd.Stdout, err = s.connectOutput(p, s.spec.Stdout); err != nil {
		return err
	}
	if same(s.spec.Stdout, s.spec.Stderr) {
		s.cmd.Stderr = s.cmd.Stdout
		return nil
	}
	s.cmd.Stderr, err = s.connectOutput(p, s.spec.Stderr)
	return err
}

// connectOutput returns the child's end of a pipe whose content is copied to w.
func (s *supervisor) connectOutput(p *pipes, w io.Writer) (io.Writer, error) {
	if w == nil {
		return nil, nil
	}
	ours, theirs, err := p.fromChild()
	if err != nil {
		return nil, err
	}
	s.streams.addOutput(w, ours)
	return theirs, nil
}

// same reports whether two writers are equal, in the same way as os/exec.
func same(a, b io.Writer) bool {
	defer func() {
		// The comparison panics if the type is not comparable: then they are not the same.
		_ = recover()
	}()
	return a == b
}

// begin records the supervisor and sends the request. The record of the supervisor is enough
// to find every process that it starts.
func (s *supervisor) begin(req request) error {
	p, err := identify(s.cmd.Process.Pid)
	p.Cgroup = req.Cgroup
	s.processes = append(s.processes, p)
	if err = errors.Join(err, s.spec.record(p)); err != nil {
		return err
	}
	err = json.NewEncoder(s.requests).Encode(req)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) {
		return nil // The supervisor was killed or ctx is done: follow returns the error.
	}
	return err
}

// endTree has the supervisor end the process tree.
func (s *supervisor) endTree() { _ = s.requests.Close() }

// follow reads the reports of the supervisor until the process tree is gone. It returns nil
// if the command was not started or the supervisor was lost.
func (s *supervisor) follow() (*ending, error) {
	reports := json.NewDecoder(s.reports)
	var errs error
	for {
		var rep report
		if err := reports.Decode(&rep); err != nil {
			return nil, errs
		}
		switch {
		case rep.Failed != nil:
			return nil, errors.Join(errs, &StartError{What: rep.Failed.What, Err: rep.Failed.Errno})
		case rep.Started != nil:
			s.processes = append(s.processes, *rep.Started)
			if err := s.spec.record(*rep.Started); err != nil {
				errs = errors.Join(errs, err)
				s.endTree()
			}
		case rep.Ended != nil:
			return rep.Ended, errs
		}
	}
}

func (s *supervisor) close() error {
	var errs error
	for _, f := range append(s.streams.outputs, s.requests, s.reports) {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, fs.ErrInvalid) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// pipes creates the pipes to a child process.
type pipes struct{ childEnds []*os.File }

// toChild returns our end and the child's end of a pipe that the child reads.
func (p *pipes) toChild() (ours, theirs *os.File, err error) {
	theirs, ours, err = os.Pipe()
	if err == nil {
		p.childEnds = append(p.childEnds, theirs)
	}
	return ours, theirs, err
}

// fromChild returns our end and the child's end of a pipe that the child writes.
func (p *pipes) fromChild() (ours, theirs *os.File, err error) {
	ours, theirs, err = os.Pipe()
	if err == nil {
		p.childEnds = append(p.childEnds, theirs)
	}
	return ours, theirs, err
}

// closeChildEnds closes our copies of the child's ends. The child has its own.
func (p *pipes) closeChildEnds() {
	for _, f := range p.childEnds {
		f.Close()
	}
}
