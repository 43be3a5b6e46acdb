package upgrade

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	packages "github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

//go:embed apt.sh
var aptScript string

//go:embed dnf.sh
var dnfScript string

// script is what upgrades with a tool: $1 is the package, $2 "version", "file" or
// "newest", $3 which.
func script(t packages.Tool) string {
	if t.Name == packages.Apt().Name {
		return aptScript
	}
	return dnfScript
}

// env is the environment of the script. The package restarts the agent itself.
func env() []string {
	var env []string
	for name, value := range packages.Env() {
		env = append(env, name+"="+value)
	}
	return env
}

// manager is the tool that has installed the agent, as a package of this name.
type manager struct {
	tool packages.Tool
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
	for _, t := range []packages.Tool{packages.Apt(), packages.Dnf()} {
		if _, err := exec.LookPath(t.Database); err != nil {
			continue
		}
		lines, err := packages.Ask(ctx, t.Owner, path)
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
			if _, err := exec.LookPath(t.Name); err != nil {
				return manager{}, handlers.Reject("the agent cannot upgrade itself: the package %s has installed it, but there is no %s on this server", pack, t.Name)
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
	if filepath.Ext(p.File) != m.tool.Suffix || !filepath.IsAbs(p.File) {
		return handlers.Reject("payload.file: %s is no absolute path of a %s, which %s on this server would take", p.File, m.tool.Suffix, m.tool.Name)
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
	if err := trust.CheckFile(p.File); err != nil {
		return handlers.Reject("payload.file: %v", err)
	}
	lines, err := packages.Ask(ctx, m.tool.Content, p.File)
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
