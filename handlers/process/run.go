package process

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// run is one command's supervisor and the pipes to it, as the Runner sees them.
type run struct {
	cmd       *exec.Cmd
	processes []handlers.Process
	// requests is closed to end the tree; reports come to their end with the
	// supervisor.
	requests, reports *os.File
	stdin             *os.File
	outputs           []*os.File
	gone              chan struct{}
	copiers           sync.WaitGroup
	copyErr           error
	copyErrMu         sync.Mutex
}

// startSupervisor starts a supervisor that has the command's stdin and output
// and waits for a request.
func (r *Runner) startSupervisor(spec Spec) (*run, error) {
	argv := r.Supervisor
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe", "supervise"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Args = append(cmd.Args, lookup(spec.Env, envTaskID))
	cmd.Dir = "/"
	// It does next to nothing, and should need next to nothing for it.
	cmd.Env = []string{"GOMAXPROCS=2", "GOGC=off"}
	// Signals to the agent's process group, from a terminal, are not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	run := &run{cmd: cmd, gone: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	pipe := func(toThem bool) (our, their *os.File, err error) {
		rd, wr, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		our, their = rd, wr
		if toThem {
			our, their = wr, rd
		}
		theirs = append(theirs, their)
		return our, their, nil
	}
	output := func(w io.Writer) (their *os.File, err error) {
		if w == nil {
			return nil, nil
		}
		our, their, err := pipe(false)
		if err != nil {
			return nil, err
		}
		run.outputs = append(run.outputs, our)
		run.copiers.Go(func() { run.copyOutput(w, our) })
		return their, nil
	}

	err := func() error {
		requests, reqR, err := pipe(true)
		if err != nil {
			return err
		}
		run.requests = requests
		reports, repW, err := pipe(false)
		if err != nil {
			return err
		}
		run.reports = reports
		cmd.ExtraFiles = []*os.File{reqR, repW} // requestFD, reportFD
		if spec.Stdin != nil {
			our, their, err := pipe(true)
			if err != nil {
				return err
			}
			run.stdin, cmd.Stdin = our, their
			run.copiers.Go(func() { run.copyInput(our, spec.Stdin) })
		}
		// A nil *os.File must not become an io.Writer that is not nil.
		out, err := output(spec.Stdout)
		if err != nil {
			return err
		}
		if out != nil {
			cmd.Stdout = out
		}
		if out != nil && same(spec.Stdout, spec.Stderr) {
			cmd.Stderr = out
		} else if out, err = output(spec.Stderr); err != nil {
			return err
		} else if out != nil {
			cmd.Stderr = out
		}
		return cmd.Start()
	}()
	if err != nil {
		return nil, errors.Join(err, run.drain(), run.close())
	}
	return run, nil
}

// same says whether two writers are one, as os/exec does.
func same(a, b io.Writer) bool {
	defer func() {
		// Values that cannot be compared are not the same.
		_ = recover()
	}()
	return a == b
}

func (r *run) send(req request) error {
	err := json.NewEncoder(r.requests).Encode(req)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) {
		// The supervisor is gone, or the context is done; follow tells.
		return nil
	}
	return err
}

// stop has the supervisor end the tree.
func (r *run) stop() { _ = r.requests.Close() }

// follow reads what the supervisor reports until the tree is gone. The ending is
// nil if there was none: not started, or the supervisor is lost.
func (r *run) follow(spec Spec) (*ending, error) {
	reports := json.NewDecoder(r.reports)
	var errs error
	for {
		var rep report
		if err := reports.Decode(&rep); err != nil {
			return nil, errs
		}
		switch {
		case rep.Failed != nil:
			err := &StartError{What: rep.Failed.What, Err: rep.Failed.Errno}
			return nil, errors.Join(errs, err)
		case rep.Started != nil:
			r.processes = append(r.processes, *rep.Started)
			if err := spawned(spec, *rep.Started); err != nil {
				errs = errors.Join(errs, err)
				r.stop()
			}
		case rep.Ended != nil:
			return rep.Ended, errs
		}
	}
}

// drain, called when the tree is gone, waits until what it has written has been
// copied.
func (r *run) drain() error {
	close(r.gone)
	if r.stdin != nil {
		r.stdin.Close()
	}
	for _, f := range r.outputs {
		// Wakes a reader that waits for a process outside the tree, which got the
		// pipe from one in it.
		_ = f.SetReadDeadline(time.Now())
	}
	r.copiers.Wait()
	return r.copyErr
}

func (r *run) close() error {
	var errs error
	for _, f := range append(r.outputs, r.requests, r.reports) {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, fs.ErrInvalid) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

func (r *run) copyInput(dst *os.File, src io.Reader) {
	_, err := io.Copy(dst, src)
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, fs.ErrClosed) {
		r.failCopy(err)
	}
	dst.Close()
}

// copyOutput copies to the end of the pipe or, once the tree is gone, what was
// in the pipe by then. After an error of dst it goes on reading, so that the
// command is not held up.
func (r *run) copyOutput(dst io.Writer, src *os.File) {
	buf := make([]byte, 32<<10)
	for left := -1; left != 0; {
		if left < 0 && r.isGone() {
			left = pending(src)
			_ = src.SetReadDeadline(time.Time{})
			continue
		}
		chunk := buf
		if left > 0 {
			chunk = buf[:min(left, len(buf))]
		}
		n, err := src.Read(chunk)
		if left > 0 {
			left -= n
		}
		if n > 0 && dst != nil {
			if _, err := dst.Write(chunk[:n]); err != nil {
				r.failCopy(err)
				dst = nil
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && left < 0 {
			continue
		}
		if err != nil {
			return
		}
	}
}

func (r *run) isGone() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

// pending is the number of bytes in a pipe.
func pending(f *os.File) int {
	n := 0
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

func (r *run) failCopy(err error) {
	r.copyErrMu.Lock()
	defer r.copyErrMu.Unlock()
	r.copyErr = errors.Join(r.copyErr, err)
}
