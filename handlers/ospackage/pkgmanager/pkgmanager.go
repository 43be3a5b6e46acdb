// Package pkgmanager describes the package managers of servers: apt with dpkg, and dnf
// with rpm. The handlers ospackage and upgrade use it.
package pkgmanager

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Tool is a package manager.
type Tool struct {
	// Name is the program that installs packages, Database the program that lists the
	// installed ones, and Suffix the suffix of package files.
	Name, Database, Suffix string
	// Owner is the command that names the package of an installed file, Content the command
	// that names the package in a package file.
	Owner, Content []string
	version        []string
}

// Apt returns apt-get with dpkg.
func Apt() Tool {
	return Tool{
		Name: "apt-get", Database: "dpkg-query", Suffix: ".deb",
		Owner:   []string{"dpkg-query", "--search"},
		Content: []string{"dpkg-deb", "--show", "--showformat=${Package}\n"},
		version: []string{"dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\n"},
	}
}

// Dnf returns dnf with rpm.
func Dnf() Tool {
	return Tool{
		Name: "dnf", Database: "rpm", Suffix: ".rpm",
		Owner:   []string{"rpm", "--query", "--queryformat=%{NAME}:\n", "--file"},
		Content: []string{"rpm", "--query", "--nosignature", "--queryformat=%{NAME}\n", "--package"},
		version: []string{"rpm", "--query", "--queryformat=installed %{VERSION}-%{RELEASE}\n"},
	}
}

// Named returns the package manager with a program name.
func Named(name string) (Tool, bool) {
	for _, t := range []Tool{Apt(), Dnf()} {
		if t.Name == name {
			return t, true
		}
	}
	return Tool{}, false
}

// Env returns the environment in which package managers install without questions.
func Env() map[string]string {
	return map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/root", "LC_ALL": "C.UTF-8",
		"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none", "UCF_FORCE_CONFFOLD": "1",
		"NEEDRESTART_MODE": "l", // Only list the services to restart.
	}
}

// Environ returns Env as NAME=VALUE pairs.
func Environ() []string {
	var env []string
	for name, value := range Env() {
		env = append(env, name+"="+value)
	}
	return env
}

// Query runs a command that only reads, and returns the lines of its output.
func Query(ctx context.Context, argv []string, args ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...) //nolint:gosec // programs of package managers
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// State is the state of an installed package.
type State struct {
	Version string
	// Complete reports whether the package is completely installed. Status is the package
	// manager's name of the state.
	Complete bool
	Status   string
}

// Installed returns the state of an installed package. It returns an error if the package
// is not installed.
func (t Tool) Installed(ctx context.Context, pack string) (State, error) {
	lines, err := Query(ctx, t.version, pack)
	if err != nil {
		return State{}, fmt.Errorf("read the installed version of %s: %w", pack, err)
	}
	// During an upgrade, rpm lists both the new and the old version.
	status, version, ok := strings.Cut(lines[len(lines)-1], " ")
	if !ok {
		return State{}, fmt.Errorf("read the installed version of %s: %s printed %q", pack, t.Database, lines)
	}
	if len(lines) > 1 {
		status = fmt.Sprintf("%d versions", len(lines))
	}
	return State{Version: version, Complete: len(lines) == 1 && status == "installed", Status: status}, nil
}

// Short returns a version without its epoch and its package revision.
func Short(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		version = version[:i]
	}
	return version
}

// Matches reports whether a version is the wanted one, which may lack the epoch and the
// revision.
func Matches(version, wanted string) bool {
	_, plain, _ := strings.Cut(version, ":")
	return version == wanted || plain == wanted || Short(version) == wanted
}
