// Package pkgmanager knows the package managers of servers: apt with dpkg, and dnf
// with rpm.
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
	// Name is the program that installs, Database the one that knows what is
	// installed, Suffix that of the packages' files.
	Name, Database, Suffix string
	// Owner asks whose a file is, Content of what package a file is.
	Owner, Content []string
	version        []string
}

// Apt installs with apt-get and dpkg.
func Apt() Tool {
	return Tool{
		Name: "apt-get", Database: "dpkg-query", Suffix: ".deb",
		Owner:   []string{"dpkg-query", "--search"},
		Content: []string{"dpkg-deb", "--show", "--showformat=${Package}\n"},
		version: []string{"dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\n"},
	}
}

// Dnf installs with dnf and rpm.
func Dnf() Tool {
	return Tool{
		Name: "dnf", Database: "rpm", Suffix: ".rpm",
		Owner:   []string{"rpm", "--query", "--queryformat=%{NAME}:\n", "--file"},
		Content: []string{"rpm", "--query", "--nosignature", "--queryformat=%{NAME}\n", "--package"},
		version: []string{"rpm", "--query", "--queryformat=installed %{VERSION}-%{RELEASE}\n"},
	}
}

// Named returns the tool whose program has that name.
func Named(name string) (Tool, bool) {
	for _, t := range []Tool{Apt(), Dnf()} {
		if t.Name == name {
			return t, true
		}
	}
	return Tool{}, false
}

// Env is the environment in which packages are installed: nobody is asked anything.
func Env() map[string]string {
	return map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/root", "LC_ALL": "C.UTF-8",
		"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none", "UCF_FORCE_CONFFOLD": "1",
		"NEEDRESTART_MODE": "l", // It only lists.
	}
}

// Ask returns the lines that a program prints that only tells something.
func Ask(ctx context.Context, argv []string, args ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...) //nolint:gosec // programs of package managers
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// State is how a package is installed.
type State struct {
	Version string
	// Whole: it is installed to the end; Says is how the package manager puts it.
	Whole bool
	Says  string
}

// Installed says how a package is installed. One that is not is an error.
func (t Tool) Installed(ctx context.Context, pack string) (State, error) {
	lines, err := Ask(ctx, t.version, pack)
	if err != nil {
		return State{}, fmt.Errorf("ask which version of %s is installed: %w", pack, err)
	}
	// rpm has two of a package between its installation and the removal of the old one.
	says, version, ok := strings.Cut(lines[len(lines)-1], " ")
	if !ok {
		return State{}, fmt.Errorf("ask which version of %s is installed: %s says %q", pack, t.Database, lines)
	}
	if len(lines) > 1 {
		says = fmt.Sprintf("%d versions", len(lines))
	}
	return State{Version: version, Whole: len(lines) == 1 && says == "installed", Says: says}, nil
}

// Short is a version without the epoch and the packages' own revision.
func Short(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		version = version[:i]
	}
	return version
}

// Matches says whether a version is the wanted one, which may be named without its
// epoch and its revision.
func Matches(version, wanted string) bool {
	_, plain, _ := strings.Cut(version, ":")
	return version == wanted || plain == wanted || Short(version) == wanted
}
