package transientunit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Runner runs commands in transient units. It is safe for concurrent use.
type Runner struct {
	// Dir is where the directories of the units are kept; it is made when needed.
	Dir string
	// Grace is the time between SIGTERM and SIGKILL; zero is
	// handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is mandatory.
	Log *slog.Logger
}

// Spec is one command.
type Spec struct {
	// Name is the unit's, without .service.
	Name string
	// Description is for people who look at the unit.
	Description string
	// Argv is the command; its first element is an absolute path.
	Argv []string
	// Env is the whole environment but for what systemd adds.
	Env []string
	// Note is returned by Find.
	Note []byte
}

// keepFor is how long the directory of a unit is kept: far longer than an agent
// has to ask for it.
const keepFor = 30 * 24 * time.Hour

// recordScript is run by systemd when a command has ended, with how in its
// environment: see ExecStopPost= in systemd.service(5).
const recordScript = `set -eu
exec 2>/dev/null # it would be written over the beginning of the output
cd "${0%/*}"
printf '%s %s %s\n' "${SERVICE_RESULT-}" "${EXIT_CODE-}" "${EXIT_STATUS-}" >exit.new
sync exit.new
mv exit.new exit
`

var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$`)

// Available says why there can be no transient units here; nil is that there can.
func Available() error {
	// As sd_booted(3) does.
	if _, err := os.Lstat("/run/systemd/system"); err != nil {
		return errors.New("systemd is not running on this server")
	}
	for _, program := range []string{"systemd-run", "systemctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("look for %s: %w", program, err)
		}
	}
	return nil
}

// Find says whether a unit of that name was ever started, and returns its note.
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
	s, err := show(ctx, name)
	return note, s.alive, err
}

// Start starts a command in a unit that was not started before. It does not wait
// for its end.
func (r *Runner) Start(ctx context.Context, spec Spec) error {
	if !unitName.MatchString(spec.Name) {
		return fmt.Errorf("start a unit: %q cannot be its name", spec.Name)
	}
	r.tidy(ctx)
	dir := filepath.Join(r.Dir, spec.Name)
	if err := prepare(dir, spec.Note); err != nil {
		return fmt.Errorf("start the unit %s: %w", spec.Name, err)
	}
	grace := r.Grace
	if grace == 0 {
		grace = handlers.DefaultKillGrace
	}
	args := []string{
		"--quiet", "--collect", "--no-ask-password",
		"--unit=" + spec.Name, "--description=" + spec.Description,
		"--property=KillMode=control-group",
		fmt.Sprintf("--property=TimeoutStopSec=%dms", grace.Milliseconds()),
		// Standard error follows it.
		"--property=StandardOutput=file:" + filepath.Join(dir, "output"),
		fmt.Sprintf("--property=ExecStopPost=/bin/sh %q", filepath.Join(dir, "record")),
	}
	for _, v := range spec.Env {
		args = append(args, "--setenv="+v)
	}
	args = append(args, "--")
	for _, arg := range spec.Argv {
		// systemd would put variables of the environment into it.
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}
	out, err := exec.CommandContext(ctx, "systemd-run", args...).CombinedOutput() //nolint:gosec // the caller's command is to be run
	if err != nil {
		return fmt.Errorf("start the unit %s: systemd-run: %w: %s", spec.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// prepare makes the directory of a unit.
func prepare(dir string, note []byte) error {
	// What is there is of a start that did not come about.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"record": []byte(recordScript), "note": note} {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// tidy removes what is kept of units of long ago.
func (r *Runner) tidy(ctx context.Context) {
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return // There is none yet; else the start says what is wrong.
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < keepFor {
			continue
		}
		if s, err := show(ctx, e.Name()); err != nil || s.alive {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.Dir, e.Name())); err != nil {
			r.Log.Warn("what is kept of an old unit cannot be removed", "unit", e.Name(), "error", err)
		}
	}
}

func (r *Runner) file(unit, name string) string { return filepath.Join(r.Dir, unit, name) }
