package transientunit

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/systemd"
	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// Runner runs commands in transient units. It is safe for concurrent use.
type Runner struct {
	// Dir contains one directory per unit. The first Start creates it.
	Dir string
	// Grace is the time between SIGTERM and SIGKILL; zero is
	// handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is required.
	Log *slog.Logger
}

// Spec describes one command and its unit.
type Spec struct {
	// Name is the name of the unit without .service.
	Name string
	// Description is what systemctl status displays.
	Description string
	// Argv is the command; its first element is an absolute path.
	Argv []string
	// Env is the environment, to which systemd adds its own variables.
	Env []string
	// Note is returned by Find.
	Note []byte
}

// retention is the age at which the directory of a unit is removed. It is far longer than
// an agent takes to read the exit.
const retention = 30 * 24 * time.Hour

// recordScript writes the exit of the command. systemd runs it when the command has ended,
// with the exit in its environment: see ExecStopPost= in systemd.service(5).
//
//go:embed record.sh
var recordScript []byte

var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$`)

// Available returns an error if this server cannot run transient units.
func Available() error {
	if !systemd.Running() {
		return errors.New("systemd is not running on this server")
	}
	return nil
}

// Find reports whether a unit of that name was ever started, and returns its note.
func (r *Runner) Find(ctx context.Context, name string) (note []byte, started bool, err error) {
	note, err = os.ReadFile(r.file(name, "note"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the note of the unit %s: %w", name, err)
	}
	if _, err := os.Lstat(r.file(name, "output")); err == nil {
		return note, true, nil
	}
	s, err := stateOf(ctx, name)
	return note, s.alive, err
}

// Start starts a command in a unit that was not started before. It does not wait for the
// end of the command. If ctx is done meanwhile, the unit is started nevertheless, and the
// caller must call Follow to stop it.
func (r *Runner) Start(ctx context.Context, spec Spec) error {
	if !unitName.MatchString(spec.Name) {
		return fmt.Errorf("start a unit: %q is not a valid name", spec.Name)
	}
	r.removeOld(ctx)
	dir := filepath.Join(r.Dir, spec.Name)
	err := createDir(dir, spec.Note)
	if err == nil {
		err = startUnit(ctx, spec, dir, cmp.Or(r.Grace, handlers.DefaultKillGrace))
	}
	if err != nil {
		return fmt.Errorf("start the unit %s: %w", spec.Name, err)
	}
	return nil
}

// createDir creates the directory of a unit.
func createDir(dir string, note []byte) error {
	// An existing directory is from a start that did not succeed.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := atomicfile.Replace(filepath.Join(dir, "record"), recordScript); err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(dir, "note"), note)
}

// removeOld removes the directories of units that ended long ago.
func (r *Runner) removeOld(ctx context.Context) {
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return // The directory does not exist yet, or Start reports the error.
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < retention {
			continue
		}
		if s, err := stateOf(ctx, e.Name()); err != nil || s.alive {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.Dir, e.Name())); err != nil {
			r.Log.Warn("cannot remove the directory of an old unit", "unit", e.Name(), "error", err)
		}
	}
}

func (r *Runner) file(unit, name string) string { return filepath.Join(r.Dir, unit, name) }
