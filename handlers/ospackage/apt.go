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

// apt is the manager of Debian and its derivatives.
type apt struct{}

// aptGet returns an apt-get command that asks no questions, and gives up soon on a server
// that does not respond.
func aptGet(args ...string) []string {
	return append([]string{
		"/usr/bin/apt-get", "-q", "-y", "-o", "Acquire::Retries=2",
		"-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20",
	}, args...)
}

func (apt) installed(ctx context.Context) (map[string]installedPackage, error) {
	lines, err := pkgmanager.Query(ctx, []string{"dpkg-query", "--show", "--showformat=${Package}\t${Architecture}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"})
	if err != nil {
		return nil, fmt.Errorf("list the installed packages: %w", err)
	}
	native := ""
	all := make(map[string]installedPackage)
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 5 || f[3] == "not-installed" || f[3] == "config-files" {
			continue
		}
		if f[0] == "dpkg" {
			native = f[1]
		}
		name := f[0] + ":" + f[1]
		all[name] = installedPackage{State: pkgmanager.State{Version: f[4], Complete: f[3] == "installed", Status: f[3]}, Held: f[2] == "hold"}
	}
	// apt-get omits the architecture if it is that of the server.
	for name, p := range all {
		short, arch, _ := strings.Cut(name, ":")
		if arch == native || arch == "all" {
			delete(all, name)
			all[short] = p
		}
	}
	return all, nil
}

func (apt) availableVersions(ctx context.Context, name string) ([]string, error) {
	lines, err := pkgmanager.Query(ctx, []string{"apt-cache", "madison"}, name)
	if err != nil {
		return nil, fmt.Errorf("list the versions of %s: %w", name, err)
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

func (apt) updateCommand() []string { return aptGet("-o", "APT::Update::Error-Mode=any", "update") }

// args returns the arguments of apt-get install.
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

func (a apt) downloadCommands(_ context.Context, op operation) ([][]string, error) {
	if len(op.Install) == 0 {
		return nil, nil
	}
	args := []string{"--allow-downgrades", "--allow-change-held-packages", "--download-only", "install"}
	// After an interruption of dpkg, apt-get refuses every command that takes the lock of
	// dpkg. The script of the transaction repairs dpkg.
	if left, err := os.ReadDir("/var/lib/dpkg/updates"); err == nil && len(left) > 0 {
		args = append([]string{"-o", "Debug::NoLocking=true"}, args...)
	}
	return [][]string{aptGet(append(args, a.args(op)...)...)}, nil
}

// aptLine matches a change in the output of apt-get --simulate.
var aptLine = regexp.MustCompile(`^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?`)

func (a apt) simulate(ctx context.Context, op operation) ([]Change, error) {
	if len(op.Install)+len(op.Remove) == 0 {
		return nil, nil
	}
	argv := aptGet(append([]string{"--simulate", "--allow-downgrades", "--allow-change-held-packages", "install"}, a.args(op)...)...)
	lines, err := pkgmanager.Query(ctx, argv)
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

func (a apt) applyCommand(_ context.Context, op operation) ([]string, error) {
	return scriptCommand(aptScript, op, a.args(op)), nil
}

func (apt) checkHold(context.Context) error {
	_, err := exec.LookPath("apt-mark")
	return err
}

func (apt) lockHolder() string {
	for _, path := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"} {
		if holder := fcntlHolder(path); holder != "" {
			return holder
		}
	}
	return ""
}

func (apt) repairCommand() string { return "dpkg --configure -a" }
