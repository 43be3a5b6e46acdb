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

// installed is how a package is on the server.
type installed struct {
	pkgmanager.State
	Held bool
}

// operation is one transaction.
type operation struct {
	// Install are packages to install, or to bring to another version; without a
	// version it is what the package manager would take.
	Install []pin
	Remove  []string
	// Release are to be held no more while it runs; Hold are to be held when it has
	// ended well, and Held when it has failed.
	Release, Hold, Held []string
}

type pin struct {
	Name, Version string
	// From is the version that is there, or empty.
	From string
}

// system is a package manager as this handler needs it. Nothing but what apply
// returns changes anything that is installed.
type system interface {
	// installed returns all packages of the server, by name.
	installed(ctx context.Context) (map[string]installed, error)
	// offers lists the versions that the lists of packages have of one.
	offers(ctx context.Context, name string) ([]string, error)
	// lists fetches the lists of packages, fetch the packages themselves.
	lists() []string
	fetch(ctx context.Context, op operation) ([][]string, error)
	// simulate says what an operation would change; held packages included.
	simulate(ctx context.Context, op operation) ([]Change, error)
	// apply is the command that performs an operation.
	apply(ctx context.Context, op operation) ([]string, error)
	// holds says why packages cannot be held here, or nil.
	holds(ctx context.Context) error
	// holder says who keeps the package manager from its work, or nothing.
	holder() string
	// repair says how a person repairs what was interrupted.
	repair() string
}

// systemOf finds out which package manager the server is of. Either may be installed
// on a server of the other.
func systemOf() (system, error) {
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
	there := func(t pkgmanager.Tool) bool {
		_, err := exec.LookPath(t.Name)
		_, err2 := exec.LookPath(t.Database)
		return err == nil && err2 == nil
	}
	switch {
	case there(pkgmanager.Apt()) && (debian || !there(pkgmanager.Dnf())):
		return apt{}, nil
	case there(pkgmanager.Dnf()):
		return dnf{}, nil
	}
	return nil, handlers.Reject("the agent cannot install packages: there is neither apt-get with dpkg nor dnf with rpm on this server")
}
