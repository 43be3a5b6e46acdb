package transientunit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Exit is how a command ended.
type Exit struct {
	// Code is the exit code, if Signal is empty.
	Code int
	// Signal is what killed it, like SIGTERM, or empty.
	Signal string
	// Result is what systemd makes of it, like success, exit-code or oom-kill.
	Result string
}

// Err is nil for exit code 0, and otherwise says "exit code 3" or "killed by
// SIGKILL (oom-kill)".
func (e Exit) Err() error {
	switch {
	case e.Signal != "":
		return fmt.Errorf("killed by %s (%s)", e.Signal, e.Result)
	case e.Code != 0:
		return fmt.Errorf("exit code %d", e.Code)
	}
	return nil
}

// ErrLost: the unit is gone, and how its command ended is not known, as after a
// power failure.
var ErrLost = errors.New("how the command ended is not known")

// How often output is looked for, and at how many of these times the unit.
const (
	lookEvery = 200 * time.Millisecond
	showEvery = 25
)

// Follow returns when the unit is gone, with nothing in its cgroup. Its output,
// without the first skip bytes, goes to out.
//
// The error is nil if the command has ended by itself, with whatever exit code,
// and ErrLost if nobody knows. When ctx is done, the unit is stopped, SIGTERM
// first and SIGKILL after the grace, and the error is context.Cause(ctx); but if
// the cause is handlers.ErrStopping, the unit goes on and Follow returns at once.
func (r *Runner) Follow(ctx context.Context, name string, out io.Writer, skip int64) (Exit, error) {
	f := follower{name: name, exit: r.file(name, "exit"), output: r.file(name, "output"), out: out, at: skip}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if err := f.copy(); err != nil && n%showEvery == 0 {
			r.Log.Warn("a unit's output cannot be followed; it is tried again", "error", err)
		}
		if n%showEvery == 0 || f.ended() {
			gone, err := f.gone(ctx)
			if err != nil && ctx.Err() == nil {
				r.Log.Warn("systemd does not say how a unit is; it is asked again", "unit", name, "error", err)
			}
			if gone {
				return f.end()
			}
		}
		select {
		case <-ctx.Done():
			return r.stop(ctx, &f)
		case <-ticker.C:
		}
	}
}

// stop ends a unit, unless it is only the agent that stops.
func (r *Runner) stop(ctx context.Context, f *follower) (Exit, error) {
	cause := context.Cause(ctx)
	if errors.Is(cause, handlers.ErrStopping) {
		return Exit{}, cause
	}
	ctx = context.WithoutCancel(ctx)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		err := stopUnit(ctx, f.name)
		gone, showErr := f.gone(ctx)
		if gone {
			break
		}
		if n%showEvery == 0 {
			r.Log.Warn("a unit is not stopped yet; it is told again", "unit", f.name, "error", errors.Join(err, showErr))
		}
		<-ticker.C
	}
	exit, err := f.end()
	if err == nil && exit.Err() == nil {
		return exit, nil // It was done before it could be stopped.
	}
	return exit, cause
}

// follower is what Follow knows of a unit.
type follower struct {
	name, exit, output string
	out                io.Writer
	at                 int64
	cgroup             string
}

// copy hands on what has been printed meanwhile.
func (f *follower) copy() error {
	file, err := os.Open(f.output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the output of the unit %s: %w", f.name, err)
	}
	defer file.Close()
	if _, err := file.Seek(f.at, io.SeekStart); err != nil {
		return fmt.Errorf("read the output of the unit %s: %w", f.name, err)
	}
	n, err := io.Copy(f.out, file)
	f.at += n
	if err != nil {
		return fmt.Errorf("read the output of the unit %s: %w", f.name, err)
	}
	return nil
}

func (f *follower) ended() bool {
	_, err := os.Lstat(f.exit)
	return err == nil
}

// gone says whether the unit has ended and nothing of it runs.
func (f *follower) gone(ctx context.Context) (bool, error) {
	s, err := show(ctx, f.name)
	if s.cgroup != "" {
		f.cgroup = s.cgroup
	}
	return err == nil && !s.alive && !populated(f.cgroup), err
}

// end returns how the command of a unit that is gone has ended.
func (f *follower) end() (Exit, error) {
	if err := f.copy(); err != nil {
		return Exit{}, err
	}
	b, err := os.ReadFile(f.exit)
	if errors.Is(err, fs.ErrNotExist) {
		return Exit{}, ErrLost
	}
	if err != nil {
		return Exit{}, fmt.Errorf("read how the unit %s ended: %w", f.name, err)
	}
	return parseExit(string(b))
}

// parseExit reads what recordScript has written.
func parseExit(line string) (Exit, error) {
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(words) != 3 {
		return Exit{}, fmt.Errorf("%w: its record is %q", ErrLost, line)
	}
	exit := Exit{Result: words[0]}
	switch words[1] {
	case "exited":
		code, err := strconv.Atoi(words[2])
		if err != nil {
			return Exit{}, fmt.Errorf("%w: its record is %q", ErrLost, line)
		}
		exit.Code = code
	case "killed", "dumped":
		exit.Signal = "SIG" + words[2]
	default:
		return Exit{}, fmt.Errorf("%w: its record is %q", ErrLost, line)
	}
	return exit, nil
}
