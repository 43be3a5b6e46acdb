package sysservice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kardianos/service"
)

// The errors of a Unit that a caller may want to tell apart.
var (
	ErrPackaged     = errors.New("the service belongs to a package")
	ErrNotOurs      = errors.New("the unit file was not made by this program")
	ErrNotInstalled = errors.New("the service is not installed")
	ErrInstalled    = errors.New("the service is installed already")
)

// Unit is the program as a service of systemd where no package has made it one.
type Unit struct {
	name, program, text string
	// config is the configuration that was named; empty is that of the packages.
	config string
	// local is where the administrator's units are, packaged those of packages.
	local    string
	packaged []string
	service  service.Service
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
	// Config is put in the place of the file after --config in ExecStart=, an absolute
	// path; empty leaves that one.
	Config string
	// Root is put before the folders of units; empty but in tests.
	Root string
}

// marker is the first line of the unit files made here, by which they are known.
const marker = "# Made by `%s service install`; `%[1]s service uninstall` removes it.\n"

// NewUnit makes a Unit; nothing is touched yet.
func NewUnit(o UnitOptions) (*Unit, error) {
	u := &Unit{name: o.Name, program: o.Program, config: o.Config, local: filepath.Join(o.Root, "/etc/systemd/system")}
	for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"} {
		u.packaged = append(u.packaged, filepath.Join(o.Root, dir))
	}
	text, err := withProgram(o.Text, o.Program)
	if err == nil && o.Config != "" {
		text, err = withConfig(text, o.Config)
	}
	if err != nil {
		return nil, err
	}
	u.text = fmt.Sprintf(marker, o.Name) + text
	u.service, err = service.New(nothing{}, &service.Config{
		Name: o.Name, Executable: o.Program,
		Option: service.KeyValue{"SystemdScript": u.text},
	})
	if err != nil {
		return nil, fmt.Errorf("find the service manager: %w", err)
	}
	return u, nil
}

// withProgram replaces the program that a unit starts. Wherever else the unit
// names it (ExecStartPre= …), it is replaced too.
func withProgram(text, program string) (string, error) {
	if !plain(program) {
		return "", fmt.Errorf("the program's path %q cannot stand in a unit: move it to a plain absolute path", program)
	}
	match := regexp.MustCompile(`(?m)^ExecStart=[-@:+!]*(\S+)`).FindStringSubmatch(text)
	if match == nil {
		return "", errors.New("the unit has no ExecStart=")
	}
	return strings.ReplaceAll(text, match[1], program), nil
}

// withConfig replaces the configuration that the program of a unit reads.
func withConfig(text, config string) (string, error) {
	if !plain(config) {
		return "", fmt.Errorf("the configuration's path %q cannot stand in a unit: move it to a plain absolute path", config)
	}
	at := regexp.MustCompile(`(?m)^ExecStart=.*\s--config\s+(\S+)`).FindStringSubmatchIndex(text)
	if at == nil {
		return "", errors.New("the unit's ExecStart= has no --config")
	}
	return text[:at[2]] + config + text[at[3]:], nil
}

// plain says whether a path means itself in a unit, without quotes.
func plain(path string) bool {
	return filepath.IsAbs(path) && !strings.ContainsAny(path, " \t\n\"'\\%$;")
}

// Install writes the unit, enables it, and does not start it. A configuration that was
// named must be there.
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
	if u.config != "" {
		if _, err := os.Stat(u.config); err != nil {
			return fmt.Errorf("the service could not read its configuration: %w; write it first, or name another one with --config", err)
		}
	}
	if err := u.onSystemd(); err != nil {
		return err
	}
	if err := u.service.Install(); err != nil {
		return errors.Join(fmt.Errorf("install the service: %w", err), u.remove())
	}
	return nil
}

// Uninstall stops the service and removes its unit, if Install has written it.
func (u *Unit) Uninstall() error {
	if err := u.ours(); err != nil {
		return err
	}
	if err := u.service.Stop(); err != nil {
		return fmt.Errorf("stop the service: %w", err)
	}
	if err := u.service.Uninstall(); err != nil {
		return fmt.Errorf("uninstall the service: %w", err)
	}
	return nil
}

// Start starts the service, be it of a package or not.
func (u *Unit) Start() error { return u.act("start", u.service.Start) }

// Stop stops the service.
func (u *Unit) Stop() error { return u.act("stop", u.service.Stop) }

// Restart stops and starts the service.
func (u *Unit) Restart() error { return u.act("restart", u.service.Restart) }

// Status is "running", "stopped" or "failed"; ErrNotInstalled where there is no
// such service.
func (u *Unit) Status() (string, error) {
	if err := u.installed(); err != nil {
		return "", err
	}
	switch status, err := u.service.Status(); {
	case status == service.StatusRunning:
		return "running", nil
	case status == service.StatusStopped:
		return "stopped", nil
	case errors.Is(err, service.ErrNotInstalled):
		return "", fmt.Errorf("%w: systemd does not know %s; `systemctl daemon-reload` may help", ErrNotInstalled, u.name)
	default:
		return "failed", nil
	}
}

func (u *Unit) act(what string, act func() error) error {
	if err := u.installed(); err != nil {
		return err
	}
	if err := act(); err != nil {
		return fmt.Errorf("%s the service: systemctl: %w; `journalctl --unit=%s` may say why", what, err, u.name)
	}
	return nil
}

func (u *Unit) file() string { return filepath.Join(u.local, u.name+".service") }

func (u *Unit) packagedFile() (string, bool) {
	for _, dir := range u.packaged {
		file := filepath.Join(dir, u.name+".service")
		if _, err := os.Stat(file); err == nil {
			return file, true
		}
	}
	return "", false
}

// onSystemd refuses the other service managers, for which there is no unit.
func (u *Unit) onSystemd() error {
	if p := u.service.Platform(); p != "linux-systemd" {
		return fmt.Errorf("the service manager here is %s: only systemd is supported; start `%s run` from its own configuration", p, u.program)
	}
	return nil
}

// remove takes back a unit that Install could not enable.
func (u *Unit) remove() error {
	if err := os.Remove(u.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the unit again: %w", err)
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

// nothing is the program that the library would run; here it only manages units.
type nothing struct{}

func (nothing) Start(service.Service) error { return nil }
func (nothing) Stop(service.Service) error  { return nil }
