package ospackage

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

// installedPackage is a package on the server.
type installedPackage struct {
	pkgmanager.State
	Held bool
}

// operation describes the changes of one transaction.
type operation struct {
	// Install lists the packages to install, or to bring to another version.
	Install []installation
	Remove  []string
	// Release lists the packages whose hold is released during the transaction. After it
	// has succeeded, the packages of Hold are held; after it has failed, those of Restore.
	Release, Hold, Restore []string
}

// installation is a package that a transaction installs.
type installation struct {
	// Version is empty for the version that the package manager prefers.
	Name, Version string
	// From is the installed version, or empty.
	From string
}

// manager is a package manager. Only the command of applyCommand changes installed
// packages.
type manager interface {
	// installed returns all packages of the server by name.
	installed(ctx context.Context) (map[string]installedPackage, error)
	// parseName checks a name, which may have an architecture, and returns it as installed
	// names it: without the server's own architecture. It returns a *handlers.RejectError.
	parseName(ctx context.Context, name string) (string, error)
	// checkVersion returns a *handlers.RejectError for a text that is no version.
	checkVersion(version string) error
	// withoutArch returns a name without its architecture.
	withoutArch(name string) string
	// availableVersions returns the versions in the package lists of exactly the named
	// packages, the newest first. Groups and virtual packages have none.
	availableVersions(ctx context.Context, names []string) (map[string][]string, error)
	// updateCommand returns the command that updates the package lists.
	updateCommand() []string
	// downloadCommands returns the commands that download the packages of an operation.
	downloadCommands(ctx context.Context, op operation) ([][]string, error)
	// simulate returns the changes of an operation, including those of held packages.
	simulate(ctx context.Context, op operation) ([]Change, error)
	// applyCommand returns the command that performs an operation.
	applyCommand(ctx context.Context, op operation) ([]string, error)
	// checkHold returns an error if the package manager cannot hold packages.
	checkHold(ctx context.Context) error
	// lockHolder describes the process that locks the package manager; empty if none does.
	lockHolder() string
	// repairAdvice describes how an operator repairs an interrupted transaction.
	repairAdvice() string
}

// detectManager returns the package manager of the server. Both may be installed; then
// the distribution decides.
func detectManager() (manager, error) {
	debian := false
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			key, value, _ := strings.Cut(s.Text(), "=")
			if key == "ID" || key == "ID_LIKE" {
				debian = debian || slices.Contains(strings.Fields(strings.Trim(value, `"'`)), "debian")
			}
		}
	}
	isInstalled := func(t pkgmanager.Tool) bool {
		_, err := exec.LookPath(t.Name)
		_, err2 := exec.LookPath(t.Database)
		return err == nil && err2 == nil
	}
	switch {
	case isInstalled(pkgmanager.Apt()) && (debian || !isInstalled(pkgmanager.Dnf())):
		return apt{}, nil
	case isInstalled(pkgmanager.Dnf()):
		return dnf{}, nil
	}
	return nil, handlers.Reject("the agent cannot install packages: this server has neither apt-get with dpkg nor dnf with rpm")
}

// scriptCommand returns the command that runs a script with the holds of an operation and
// further arguments.
func scriptCommand(script string, op operation, args []string) []string {
	argv := []string{"/bin/sh", "-euc", script, Name}
	for _, names := range [][]string{op.Release, op.Hold, op.Restore} {
		argv = append(argv, strings.Join(names, " "))
	}
	return append(argv, args...)
}
