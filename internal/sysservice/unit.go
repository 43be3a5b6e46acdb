package sysservice

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// The errors of a Unit that a caller may want to tell apart.
var (
	ErrPackaged     = errors.New("the service belongs to a package")
	ErrNotOurs      = errors.New("the unit file was not made by this program")
	ErrNotInstalled = errors.New("the service is not installed")
	ErrInstalled    = errors.New("the service is installed already")
	ErrNoSystemd    = errors.New("systemd does not run here")
)

// Unit is the program as a service of systemd where no package has made it one.
type Unit struct {
	name, program, text string
	// local is where the administrator's units are, packaged those of packages.
	local    string
	packaged []string
	// booted is there where systemd runs; see sd_booted(3).
	booted string
}

// UnitOptions say what a Unit is made of.
type UnitOptions struct {
	// Name is the unit's, without ".service".
	Name string
	// Text is the unit file as a package installs it.
	Text string
	// Program is put in the place of the first word of ExecStart=, as it lies
	// elsewhere than a package would have it; an absolute path.
	Program string
	// Root is put before the folders of units; empty but in tests.
	Root string
}

// marker is the first line of the unit files made here, by which they are known.
const marker = "# Made by `%s service install`; `%[1]s service uninstall` removes it.\n"

// NewUnit makes a Unit; nothing is touched yet.
func NewUnit(o UnitOptions) (*Unit, error) {
	u := &Unit{
		name: o.Name, program: o.Program,
		local: filepath.Join(o.Root, "/etc/systemd/system"), booted: filepath.Join(o.Root, "/run/systemd/system"),
	}
	for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"} {
		u.packaged = append(u.packaged, filepath.Join(o.Root, dir))
	}
	text, err := withProgram(o.Text, o.Program)
	if err != nil {
		return nil, err
	}
	u.text = fmt.Sprintf(marker, o.Name) + text
	return u, nil
}

// withProgram replaces the program that a unit starts. Wherever else the unit
// names it (ExecStartPre= …), it is replaced too.
func withProgram(text, program string) (string, error) {
	if !filepath.IsAbs(program) || strings.ContainsAny(program, " \t\n\"'\\%$;") {
		return "", fmt.Errorf("the program's path %q cannot stand in a unit: move it to a plain absolute path", program)
	}
	match := regexp.MustCompile(`(?m)^ExecStart=[-@:+!]*(\S+)`).FindStringSubmatch(text)
	if match == nil {
		return "", errors.New("the unit has no ExecStart=")
	}
	return strings.ReplaceAll(text, match[1], program), nil
}

// Install writes the unit, enables it, and does not start it.
func (u *Unit) Install() error {
	if file, ok := u.packagedFile(); ok {
		return fmt.Errorf("%w: %s is there, use `systemctl enable --now %s`", ErrPackaged, file, u.name)
	}
	switch text, err := os.ReadFile(u.file()); {
	case err == nil && string(text) == u.text:
		return fmt.Errorf("%w: %s", ErrInstalled, u.file())
	case err == nil:
		return fmt.Errorf("%w: %s is there with other content; remove it first", ErrInstalled, u.file())
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for the unit: %w", err)
	}
	if err := u.onSystemd(); err != nil {
		return err
	}
	if err := u.write(); err != nil {
		return errors.Join(fmt.Errorf("install the service: %w", err), u.remove())
	}
	return nil
}

func (u *Unit) write() error {
	if err := os.WriteFile(u.file(), []byte(u.text), 0o644); err != nil { //nolint:gosec // units are for all to read
		return err
	}
	return errors.Join(u.systemctl("enable"), systemctl("daemon-reload"))
}

// Uninstall stops the service and removes its unit, if Install has written it.
func (u *Unit) Uninstall() error {
	if err := u.ours(); err != nil {
		return err
	}
	for _, verb := range []string{"stop", "disable"} {
		if err := u.systemctl(verb); err != nil {
			return fmt.Errorf("uninstall the service: %w", err)
		}
	}
	return errors.Join(u.remove(), systemctl("daemon-reload"))
}

// Start starts the service, be it of a package or not.
func (u *Unit) Start() error { return u.act("start") }

// Stop stops the service.
func (u *Unit) Stop() error { return u.act("stop") }

// Restart stops and starts the service.
func (u *Unit) Restart() error { return u.act("restart") }

// Status is "running", "stopped" or "failed"; ErrNotInstalled where there is no
// such service.
func (u *Unit) Status() (string, error) {
	if err := u.installed(); err != nil {
		return "", err
	}
	out, err := exec.Command("systemctl", "show", "--property=LoadState,ActiveState", u.unit()).Output() //nolint:gosec // the name is the program's
	if err != nil {
		return "", fmt.Errorf("ask systemd for the service: %w", err)
	}
	switch state := string(out); {
	case !strings.Contains(state, "LoadState=loaded\n"):
		return "", fmt.Errorf("%w: systemd does not know %s; `systemctl daemon-reload` may help", ErrNotInstalled, u.name)
	case strings.Contains(state, "ActiveState=failed\n"):
		return "failed", nil
	case strings.Contains(state, "ActiveState=inactive\n"):
		return "stopped", nil
	}
	return "running", nil
}

func (u *Unit) act(verb string) error {
	if err := u.installed(); err != nil {
		return err
	}
	if err := u.systemctl(verb); err != nil {
		return fmt.Errorf("%s the service: %w; `journalctl --unit=%s` may say why", verb, err, u.name)
	}
	return nil
}

func (u *Unit) systemctl(verb string) error { return systemctl(verb, u.unit()) }

func systemctl(args ...string) error {
	out, err := exec.Command("systemctl", args...).CombinedOutput() //nolint:gosec // the arguments are the program's
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (u *Unit) unit() string { return u.name + ".service" }

func (u *Unit) file() string { return filepath.Join(u.local, u.unit()) }

func (u *Unit) packagedFile() (string, bool) {
	for _, dir := range u.packaged {
		file := filepath.Join(dir, u.unit())
		if _, err := os.Stat(file); err == nil {
			return file, true
		}
	}
	return "", false
}

// onSystemd refuses the other service managers, for which there is no unit.
func (u *Unit) onSystemd() error {
	if _, err := os.Stat(u.booted); err != nil {
		return fmt.Errorf("%w, there is no %s: only systemd is supported; start `%s run` from the configuration of the service manager that does", ErrNoSystemd, u.booted, u.program)
	}
	return nil
}

// remove removes the unit, which need not be there.
func (u *Unit) remove() error {
	if err := os.Remove(u.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the unit: %w", err)
	}
	return nil
}

func (u *Unit) installed() error {
	if _, ok := u.packagedFile(); ok {
		return u.onSystemd()
	}
	if _, err := os.Stat(u.file()); err != nil {
		return fmt.Errorf("%w: there is no %s; `%s service install` makes it", ErrNotInstalled, u.file(), u.program)
	}
	return u.onSystemd()
}

// ours says whether Install has written the unit.
func (u *Unit) ours() error {
	text, err := os.ReadFile(u.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if file, ok := u.packagedFile(); ok {
			return fmt.Errorf("%w: %s; remove the package instead", ErrPackaged, file)
		}
		return fmt.Errorf("%w: there is no %s", ErrNotInstalled, u.file())
	case err != nil:
		return fmt.Errorf("look at the unit: %w", err)
	case !strings.HasPrefix(string(text), fmt.Sprintf(marker, u.name)):
		return fmt.Errorf("%w: %s; remove it by hand", ErrNotOurs, u.file())
	}
	return u.onSystemd()
}
