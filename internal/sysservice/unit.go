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

// The errors of a Unit.
var (
	ErrPackaged     = errors.New("the service belongs to a package")
	ErrForeign      = errors.New("the unit file was not written by this program")
	ErrNotInstalled = errors.New("the service is not installed")
	ErrInstalled    = errors.New("the service is already installed")
)

// Unit is the systemd service of a program that no package has installed.
type Unit struct {
	name, program, text string
	// config is the configuration file; empty for that of the packages.
	config string
	// local is the directory of the administrator's units; packaged are those of packages.
	local    string
	packaged []string
	service  service.Service
}

// UnitOptions describe a Unit.
type UnitOptions struct {
	// Name is the name of the unit without ".service".
	Name string
	// Text is the unit file of the package.
	Text string
	// Program is the absolute path of the program. It replaces the path in Text.
	Program string
	// Config is the absolute path of the configuration file. It replaces the path after
	// --config in Text, unless it is empty.
	Config string
	// Root is a prefix of the directories of units; empty except in tests.
	Root string
}

// marker is the first line of the unit files that Install writes. It identifies them.
const marker = "# Made by `%s service install`; `%[1]s service uninstall` removes it.\n"

// NewUnit returns a Unit. It does not change anything.
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
	u.service, err = service.New(noProgram{}, &service.Config{
		Name: o.Name, Executable: o.Program,
		Option: service.KeyValue{"SystemdScript": u.text},
	})
	if err != nil {
		return nil, fmt.Errorf("find the service manager: %w", err)
	}
	return u, nil
}

// withProgram replaces the program of a unit in all of its settings.
func withProgram(text, program string) (string, error) {
	if !isPlainPath(program) {
		return "", fmt.Errorf("a unit cannot contain the program's path %q: move the program to a plain absolute path", program)
	}
	match := regexp.MustCompile(`(?m)^ExecStart=[-@:+!]*(\S+)`).FindStringSubmatch(text)
	if match == nil {
		return "", errors.New("the unit has no ExecStart=")
	}
	return strings.ReplaceAll(text, match[1], program), nil
}

// withConfig replaces the configuration file of a unit.
func withConfig(text, config string) (string, error) {
	if !isPlainPath(config) {
		return "", fmt.Errorf("a unit cannot contain the configuration's path %q: move the file to a plain absolute path", config)
	}
	at := regexp.MustCompile(`(?m)^ExecStart=.*\s--config\s+(\S+)`).FindStringSubmatchIndex(text)
	if at == nil {
		return "", errors.New("the unit's ExecStart= has no --config")
	}
	return text[:at[2]] + config + text[at[3]:], nil
}

// isPlainPath reports whether a path needs no quotes in a unit.
func isPlainPath(path string) bool {
	return filepath.IsAbs(path) && !strings.ContainsAny(path, " \t\n\"'\\%$;")
}

// Install writes and enables the unit. It does not start the service. If Config is set, the
// file must exist.
func (u *Unit) Install() error {
	if file, ok := u.packagedFile(); ok {
		return fmt.Errorf("%w: %s exists; use `systemctl enable --now %s`", ErrPackaged, file, u.name)
	}
	switch text, err := os.ReadFile(u.file()); {
	case err == nil && string(text) == u.text:
		return fmt.Errorf("%w: %s", ErrInstalled, u.file())
	case err == nil:
		return fmt.Errorf("%w: %s exists with other content; remove it first", ErrInstalled, u.file())
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the unit: %w", err)
	}
	if u.config != "" {
		if _, err := os.Stat(u.config); err != nil {
			return fmt.Errorf("the service could not read its configuration: %w; write it first, or name another one with --config", err)
		}
	}
	if err := u.checkSystemd(); err != nil {
		return err
	}
	if err := u.service.Install(); err != nil {
		return errors.Join(fmt.Errorf("install the service: %w", err), u.removeFile())
	}
	return nil
}

// Uninstall stops the service and removes its unit. It refuses a unit that Install has not
// written.
func (u *Unit) Uninstall() error {
	if err := u.checkWritten(); err != nil {
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

// Start starts the service, whether a package has installed it or not.
func (u *Unit) Start() error { return u.control("start", u.service.Start) }

// Stop stops the service.
func (u *Unit) Stop() error { return u.control("stop", u.service.Stop) }

// Restart stops and starts the service.
func (u *Unit) Restart() error { return u.control("restart", u.service.Restart) }

// Status returns "running", "stopped" or "failed". Its error is ErrNotInstalled if the
// service does not exist.
func (u *Unit) Status() (string, error) {
	if err := u.checkInstalled(); err != nil {
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

// control runs a control function of an installed service.
func (u *Unit) control(verb string, run func() error) error {
	if err := u.checkInstalled(); err != nil {
		return err
	}
	if err := run(); err != nil {
		return fmt.Errorf("%s the service: systemctl: %w; `journalctl --unit=%s` may show the reason", verb, err, u.name)
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

// checkSystemd returns an error if the service manager is not systemd.
func (u *Unit) checkSystemd() error {
	if p := u.service.Platform(); p != "linux-systemd" {
		return fmt.Errorf("the service manager here is %s: only systemd is supported; start `%s run` from its own configuration", p, u.program)
	}
	return nil
}

// removeFile removes a unit that Install could not enable.
func (u *Unit) removeFile() error {
	if err := os.Remove(u.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the unit: %w", err)
	}
	return nil
}

// checkInstalled returns an error if the service does not exist.
func (u *Unit) checkInstalled() error {
	if _, ok := u.packagedFile(); ok {
		return u.checkSystemd()
	}
	if _, err := os.Stat(u.file()); err != nil {
		return fmt.Errorf("%w: there is no %s; `%s service install` creates it", ErrNotInstalled, u.file(), u.program)
	}
	return u.checkSystemd()
}

// checkWritten returns an error unless Install has written the unit.
func (u *Unit) checkWritten() error {
	text, err := os.ReadFile(u.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if file, ok := u.packagedFile(); ok {
			return fmt.Errorf("%w: %s; remove the package instead", ErrPackaged, file)
		}
		return fmt.Errorf("%w: there is no %s", ErrNotInstalled, u.file())
	case err != nil:
		return fmt.Errorf("read the unit: %w", err)
	case !strings.HasPrefix(string(text), fmt.Sprintf(marker, u.name)):
		return fmt.Errorf("%w: %s; remove it by hand", ErrForeign, u.file())
	}
	return u.checkSystemd()
}

// noProgram stands for the program that the library could run; only its management of
// units is used.
type noProgram struct{}

func (noProgram) Start(service.Service) error { return nil }

func (noProgram) Stop(service.Service) error { return nil }
