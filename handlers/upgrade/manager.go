package upgrade

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers"
)

//go:embed apt.sh
var aptScript string

//go:embed dnf.sh
var dnfScript string

// tool is one of the package managers.
type tool struct {
	// name is the program that upgrades, database the one that knows what is installed.
	name, database, suffix string
	// owner asks whose a file is, version which one is installed, content of what
	// package a file is.
	owner, version, content []string
	// script upgrades: $1 is the package, $2 "version", "file" or "newest", $3 which.
	script string
}

func tools() []tool {
	return []tool{
		{
			name: "apt-get", database: "dpkg-query", suffix: ".deb",
			owner:   []string{"dpkg-query", "--search"},
			version: []string{"dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\n"},
			content: []string{"dpkg-deb", "--show", "--showformat=${Package}\n"},
			script:  aptScript,
		},
		{
			name: "dnf", database: "rpm", suffix: ".rpm",
			owner:   []string{"rpm", "--query", "--queryformat=%{NAME}:\n", "--file"},
			version: []string{"rpm", "--query", "--queryformat=installed %{VERSION}-%{RELEASE}\n"},
			content: []string{"rpm", "--query", "--nosignature", "--queryformat=%{NAME}\n", "--package"},
			script:  dnfScript,
		},
	}
}

func toolNamed(name string) (tool, error) {
	for _, t := range tools() {
		if t.name == name {
			return t, nil
		}
	}
	return tool{}, fmt.Errorf("the upgrade was begun with %s, which this agent does not know", name)
}

// env is the environment of the script.
func (tool) env() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive", "APT_LISTCHANGES_FRONTEND=none", "UCF_FORCE_CONFFOLD=1",
		"NEEDRESTART_MODE=l", // It only lists; the package restarts the agent itself.
	}
}

// ask returns the lines that a program of the tool prints.
func ask(ctx context.Context, argv []string, args ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...) //nolint:gosec // see tools
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// manager is the tool that has installed the agent, as a package of this name.
type manager struct {
	tool tool
	pack string
}

// program is the file of this process; outdated says whether it was replaced.
func program() (string, error) {
	path, err := os.Executable()
	return strings.TrimSuffix(path, " (deleted)"), err
}

func outdated() bool {
	path, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasSuffix(path, " (deleted)")
}

// find finds out who has installed the agent.
func find(ctx context.Context) (manager, error) {
	path, err := program()
	if err != nil {
		return manager{}, fmt.Errorf("find the agent's program: %w", err)
	}
	if uid := os.Geteuid(); uid != 0 {
		return manager{}, handlers.Reject("the agent cannot upgrade itself: it runs as user %d, and only root may install packages", uid)
	}
	for _, t := range tools() {
		if _, err := exec.LookPath(t.database); err != nil {
			continue
		}
		lines, err := ask(ctx, t.owner, path)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return manager{}, fmt.Errorf("ask whose %s is: %w", path, err)
		}
		for _, line := range lines {
			// "tasker-agent:amd64: /usr/bin/tasker-agent"; a diversion has blanks.
			pack, _, ok := strings.Cut(line, ":")
			if !ok || err != nil || strings.ContainsAny(pack, " ,") {
				continue
			}
			if _, err := exec.LookPath(t.name); err != nil {
				return manager{}, handlers.Reject("the agent cannot upgrade itself: the package %s has installed it, but there is no %s on this server", pack, t.name)
			}
			return manager{tool: t, pack: pack}, nil
		}
	}
	return manager{}, handlers.Reject("the agent cannot upgrade itself: no package of dpkg or rpm has installed %s; replace the file and restart the agent", path)
}

// check rejects a payload that does not fit this server.
func (m manager) check(ctx context.Context, p Payload) error {
	if p.File == "" {
		return nil
	}
	if p.Version != "" {
		return handlers.Reject("payload: name a version or a file, not both")
	}
	if filepath.Ext(p.File) != m.tool.suffix || !filepath.IsAbs(p.File) {
		return handlers.Reject("payload.file: %s is no absolute path of a %s, which %s on this server would take", p.File, m.tool.suffix, m.tool.name)
	}
	info, err := os.Stat(p.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return handlers.Reject("payload.file: there is no %s on this server", p.File)
	case err != nil:
		return handlers.Reject("payload.file: %v", err)
	case !info.Mode().IsRegular():
		return handlers.Reject("payload.file: %s is no file", p.File)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return handlers.Reject("payload.file: %s must belong to root, and only root may be able to write it", p.File)
	}
	lines, err := ask(ctx, m.tool.content, p.File)
	if err != nil {
		return handlers.Reject("payload.file: %s is no package: %v", p.File, err)
	}
	if len(lines) != 1 || lines[0] != m.pack {
		return handlers.Reject("payload.file: %s is not the package %s but %s", p.File, m.pack, strings.Join(lines, " "))
	}
	return nil
}

// args are those of the script.
func (m manager) args(p Payload) []string {
	switch {
	case p.File != "":
		return []string{m.pack, "file", p.File}
	case p.Version != "":
		return []string{m.pack, "version", p.Version}
	}
	return []string{m.pack, "newest", ""}
}

// state is how a package is installed.
type state struct {
	version string
	// whole: it is installed to the end; says is how the package manager puts it.
	whole bool
	says  string
}

func (m manager) installed(ctx context.Context) (state, error) {
	lines, err := ask(ctx, m.tool.version, m.pack)
	if err != nil {
		return state{}, fmt.Errorf("ask which version of %s is installed: %w", m.pack, err)
	}
	// rpm has two of a package between its installation and the removal of the old one.
	says, version, ok := strings.Cut(lines[len(lines)-1], " ")
	if !ok {
		return state{}, fmt.Errorf("ask which version of %s is installed: %s says %q", m.pack, m.tool.database, lines)
	}
	if len(lines) > 1 {
		says = fmt.Sprintf("%d versions", len(lines))
	}
	return state{version: version, whole: len(lines) == 1 && says == "installed", says: says}, nil
}
