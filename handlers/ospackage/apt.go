package ospackage

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

//go:embed apt.sh
var aptScript string

type apt struct{}

// aptGet is apt-get without questions. A server that does not answer is given up soon.
func aptGet(args ...string) []string {
	return append([]string{
		"/usr/bin/apt-get", "-q", "-y", "-o", "Acquire::Retries=2",
		"-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20",
	}, args...)
}

func (apt) installed(ctx context.Context) (map[string]installed, error) {
	lines, err := pkgmanager.Ask(ctx, []string{"dpkg-query", "--show", "--showformat=${Package}\t${Architecture}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"})
	if err != nil {
		return nil, fmt.Errorf("ask which packages are installed: %w", err)
	}
	native := ""
	all := make(map[string]installed)
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 5 || f[3] == "not-installed" || f[3] == "config-files" {
			continue
		}
		if f[0] == "dpkg" {
			native = f[1]
		}
		name := f[0] + ":" + f[1]
		all[name] = installed{State: pkgmanager.State{Version: f[4], Whole: f[3] == "installed", Says: f[3]}, Held: f[2] == "hold"}
	}
	// As apt-get names them: without the architecture, if it is the server's own.
	for name, p := range all {
		short, arch, _ := strings.Cut(name, ":")
		if arch == native || arch == "all" {
			delete(all, name)
			all[short] = p
		}
	}
	return all, nil
}

func (apt) offers(ctx context.Context, name string) ([]string, error) {
	lines, err := pkgmanager.Ask(ctx, []string{"apt-cache", "madison"}, name)
	if err != nil {
		return nil, fmt.Errorf("ask which versions of %s there are: %w", name, err)
	}
	var versions []string
	for _, line := range lines {
		// "app | 1.1-1 | http://mirror stable/main amd64 Packages"
		if f := strings.Split(line, " | "); len(f) == 3 && !strings.HasSuffix(f[2], " Sources") {
			versions = append(versions, strings.TrimSpace(f[1]))
		}
	}
	return versions, nil
}

func (apt) lists() []string { return aptGet("-o", "APT::Update::Error-Mode=any", "update") }

// args are those of apt-get install.
func (apt) args(op operation) []string {
	var args []string
	for _, p := range op.Install {
		if p.Version == "" {
			args = append(args, p.Name)
		} else {
			args = append(args, p.Name+"="+p.Version)
		}
	}
	for _, name := range op.Remove {
		args = append(args, name+"-")
	}
	return args
}

func (a apt) fetch(_ context.Context, op operation) ([][]string, error) {
	if len(op.Install) == 0 {
		return nil, nil
	}
	args := []string{"--allow-downgrades", "--allow-change-held-packages", "--download-only", "install"}
	// After dpkg was interrupted, apt-get refuses whatever takes the lock of dpkg. The
	// script of the transaction repairs that.
	if left, err := os.ReadDir("/var/lib/dpkg/updates"); err == nil && len(left) > 0 {
		args = append([]string{"-o", "Debug::NoLocking=true"}, args...)
	}
	return [][]string{aptGet(append(args, a.args(op)...)...)}, nil
}

var aptLine = regexp.MustCompile(`^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?`)

func (a apt) simulate(ctx context.Context, op operation) ([]Change, error) {
	if len(op.Install)+len(op.Remove) == 0 {
		return nil, nil
	}
	argv := aptGet(append([]string{"--simulate", "--allow-downgrades", "--allow-change-held-packages", "install"}, a.args(op)...)...)
	lines, err := pkgmanager.Ask(ctx, argv)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, line := range lines {
		if m := aptLine.FindStringSubmatch(line); m != nil {
			changes = append(changes, Change{Name: m[2], From: m[3], To: m[4]})
		}
	}
	return changes, nil
}

func (a apt) apply(_ context.Context, op operation) ([]string, error) {
	words := func(names []string) string { return strings.Join(names, " ") }
	return append([]string{"/bin/sh", "-euc", aptScript, Name, words(op.Release), words(op.Hold), words(op.Held)}, a.args(op)...), nil
}

func (apt) holds(context.Context) error {
	_, err := exec.LookPath("apt-mark")
	return err
}

func (apt) holder() string {
	for _, path := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"} {
		if who := lockedBy(path); who != "" {
			return who
		}
	}
	return ""
}

func (apt) repair() string { return "dpkg --configure -a" }
