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

// Exit is the exit of a command.
type Exit struct {
	// Code is the exit code, if Signal is empty.
	Code int
	// Signal is the signal that killed the command, like SIGTERM, or empty.
	Signal string
	// Result is systemd's name for the exit, like success, exit-code or oom-kill.
	Result string
}

// Err returns nil for exit code 0, and otherwise an error like "exit code 3" or "killed by
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

// ErrLost is returned for a command whose exit was not recorded, as after a power failure.
var ErrLost = errors.New("how the command ended is not known")

const (
	// pollInterval is the time between two reads of the output.
	pollInterval = 200 * time.Millisecond
	// pollsPerQuery is the number of reads after which systemd is queried.
	pollsPerQuery = 25
)

// Follow returns when the unit has ended and its cgroup is empty. It copies the output to
// out, except the first skip bytes.
//
// The error is nil if the command has ended by itself with any exit code, and ErrLost if
// its exit was not recorded. When ctx is done, Follow stops the unit with SIGTERM and, after
// the grace, SIGKILL, and returns context.Cause(ctx). If the cause is handlers.ErrStopping,
// Follow returns at once and the unit continues.
func (r *Runner) Follow(ctx context.Context, name string, out io.Writer, skip int64) (Exit, error) {
	f := follower{name: name, exit: r.file(name, "exit"), output: r.file(name, "output"), out: out, offset: skip}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if err := f.copyOutput(); err != nil && n%pollsPerQuery == 0 {
			r.Log.Warn("cannot read the output of a unit; trying again", "error", err)
		}
		if n%pollsPerQuery == 0 || f.hasExit() {
			ended, err := f.hasEnded(ctx)
			if err != nil && ctx.Err() == nil {
				r.Log.Warn("cannot get the state of a unit from systemd; trying again", "unit", name, "error", err)
			}
			if ended {
				return f.finish()
			}
		}
		select {
		case <-ctx.Done():
			return r.stop(ctx, &f)
		case <-ticker.C:
		}
	}
}

// stop ends a unit, unless only the agent is stopping.
func (r *Runner) stop(ctx context.Context, f *follower) (Exit, error) {
	cause := context.Cause(ctx)
	if errors.Is(cause, handlers.ErrStopping) {
		return Exit{}, cause
	}
	ctx = context.WithoutCancel(ctx)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		// systemd may drop the first request when it is upgraded.
		var stopErr error
		if n%pollsPerQuery == 0 {
			stopErr = stopUnit(ctx, f.name)
		}
		ended, err := f.hasEnded(ctx)
		if ended {
			break
		}
		if n > 0 && n%pollsPerQuery == 0 {
			r.Log.Warn("waiting for a unit to stop", "unit", f.name, "error", errors.Join(stopErr, err))
		}
		<-ticker.C
	}
	exit, err := f.finish()
	if err == nil && exit.Err() == nil {
		return exit, nil // The command succeeded before it could be stopped.
	}
	return exit, cause
}

// follower reads the output, the state and the exit of one unit.
type follower struct {
	name, exit, output string
	out                io.Writer
	offset             int64
	cgroup             string
}

// copyOutput copies the output that was written since the last call.
func (f *follower) copyOutput() error {
	file, err := os.Open(f.output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer file.Close()
		_, err = file.Seek(f.offset, io.SeekStart)
	}
	if err == nil {
		var n int64
		n, err = io.Copy(f.out, file)
		f.offset += n
	}
	if err != nil {
		return fmt.Errorf("read the output of the unit %s: %w", f.name, err)
	}
	return nil
}

func (f *follower) hasExit() bool {
	_, err := os.Lstat(f.exit)
	return err == nil
}

// hasEnded reports whether the unit has ended and nothing of it runs.
func (f *follower) hasEnded(ctx context.Context) (bool, error) {
	s, err := stateOf(ctx, f.name)
	if s.cgroup != "" {
		f.cgroup = s.cgroup
	}
	return err == nil && !s.alive && !hasProcesses(f.cgroup), err
}

// finish returns the exit of the command. The unit must have ended.
func (f *follower) finish() (Exit, error) {
	if err := f.copyOutput(); err != nil {
		return Exit{}, err
	}
	b, err := os.ReadFile(f.exit)
	if errors.Is(err, fs.ErrNotExist) {
		return Exit{}, ErrLost
	}
	if err != nil {
		return Exit{}, fmt.Errorf("read the exit of the unit %s: %w", f.name, err)
	}
	return parseExit(string(b))
}

// parseExit parses the line that recordScript writes.
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
