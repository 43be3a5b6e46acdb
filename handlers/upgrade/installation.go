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
	"github.com/MatthiasWiesner/tasker/handlers/argument"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

//go:embed apt.sh
var aptScript string

//go:embed dnf.sh
var dnfScript string

// script returns the script that upgrades with a package manager. Its arguments are the
// package, "version", "file" or "newest", and the version or file.
func script(t pkgmanager.Tool) string {
	if t.Name == pkgmanager.Apt().Name {
		return aptScript
	}
	return dnfScript
}

// installation is the package of the agent, and the package manager that installed it.
type installation struct {
	tool pkgmanager.Tool
	pkg  string
}

// programPath returns the path of the program of this process.
func programPath() (string, error) {
	path, err := os.Executable()
	return strings.TrimSuffix(path, " (deleted)"), err
}

// isProgramReplaced reports whether the program of this process was replaced.
func isProgramReplaced() bool {
	path, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasSuffix(path, " (deleted)")
}

// findInstallation finds the package that has installed the agent.
func findInstallation(ctx context.Context) (installation, error) {
	path, err := programPath()
	if err != nil {
		return installation{}, fmt.Errorf("find the agent's program: %w", err)
	}
	if uid := os.Geteuid(); uid != 0 {
		return installation{}, handlers.Reject("the agent cannot upgrade itself: it runs as user %d, and only root may install packages", uid)
	}
	for _, t := range []pkgmanager.Tool{pkgmanager.Apt(), pkgmanager.Dnf()} {
		if _, err := exec.LookPath(t.Database); err != nil {
			continue
		}
		lines, err := pkgmanager.Query(ctx, t.Owner, path)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return installation{}, fmt.Errorf("find the package of %s: %w", path, err)
		}
		for _, line := range lines {
			// "tasker-agent:amd64: /usr/bin/tasker-agent"; the line of a diversion contains blanks.
			pkg, _, ok := strings.Cut(line, ":")
			if !ok || err != nil || strings.ContainsAny(pkg, " ,") {
				continue
			}
			if _, err := exec.LookPath(t.Name); err != nil {
				return installation{}, handlers.Reject("the agent cannot upgrade itself: the package %s has installed it, but there is no %s on this server", pkg, t.Name)
			}
			return installation{tool: t, pkg: pkg}, nil
		}
	}
	return installation{}, handlers.Reject("the agent cannot upgrade itself: no package of dpkg or rpm has installed %s; replace the file and restart the agent", path)
}

// check rejects a payload that does not fit this server.
func (i installation) check(ctx context.Context, p Payload) error {
	switch {
	case p.Version != "" && p.File != "":
		return handlers.Reject("payload: name a version or a file, not both")
	case p.Version != "" && i.tool.Name == pkgmanager.Apt().Name:
		return argument.DebVersion().Check(p.Version)
	case p.Version != "":
		return argument.RPMVersion().Check(p.Version)
	case p.File != "":
		return i.checkFile(ctx, p)
	}
	return nil
}

// checkFile rejects a file that is not a package of this agent for this server.
func (i installation) checkFile(ctx context.Context, p Payload) error {
	if filepath.Ext(p.File) != i.tool.Suffix || !filepath.IsAbs(p.File) {
		return handlers.Reject("payload.file: %s is not the absolute path of a %s, which %s on this server requires", p.File, i.tool.Suffix, i.tool.Name)
	}
	info, err := os.Stat(p.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return handlers.Reject("payload.file: there is no %s on this server", p.File)
	case err != nil:
		return handlers.Reject("payload.file: %v", err)
	case !info.Mode().IsRegular():
		return handlers.Reject("payload.file: %s is not a regular file", p.File)
	}
	if err := trust.CheckFile(p.File); err != nil {
		return handlers.Reject("payload.file: %v", err)
	}
	lines, err := pkgmanager.Query(ctx, i.tool.Content, p.File)
	if err != nil {
		return handlers.Reject("payload.file: %s is not a package: %v", p.File, err)
	}
	if len(lines) != 1 || lines[0] != i.pkg {
		return handlers.Reject("payload.file: %s is not the package %s but %s", p.File, i.pkg, strings.Join(lines, " "))
	}
	return nil
}

// dryRun returns the outcome of a dry run whose payload has been checked.
func (i installation) dryRun(ctx context.Context, p Payload) (handlers.Result, error) {
	before, err := i.tool.Installed(ctx, i.pkg)
	if err != nil {
		return handlers.Result{}, err
	}
	out := Outcome{DryRun: true, From: pkgmanager.Short(before.Version), To: p.Version}
	if p.File == "" {
		out.Note = "the repositories were not searched for the version"
	}
	return handlers.Result{Value: out}, nil
}

// scriptArgs returns the arguments of the script.
func (i installation) scriptArgs(p Payload) []string {
	switch {
	case p.File != "":
		return []string{i.pkg, "file", p.File}
	case p.Version != "":
		return []string{i.pkg, "version", p.Version}
	}
	return []string{i.pkg, "newest", ""}
}
