package ospackage

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/argument"
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
		"/usr/bin/apt-get", "-q", "-y", aptNoPatterns, "-o", "Acquire::Retries=2",
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

func (apt) parseName(ctx context.Context, name string) (string, error) {
	short, arch, ok := strings.Cut(name, ":")
	if err := argument.DebPackage().Check(short); err != nil || !ok {
		return name, err
	}
	if err := argument.DebArch().Check(arch); err != nil {
		return "", err
	}
	known, err := pkgmanager.Query(ctx, []string{"dpkg", "--print-architecture"})
	if err != nil {
		return "", err
	}
	if arch == "all" || slices.Contains(known, arch) {
		return short, nil
	}
	foreign, err := pkgmanager.Query(ctx, []string{"dpkg", "--print-foreign-architectures"})
	if err != nil {
		return "", err
	}
	if !slices.Contains(foreign, arch) {
		return "", handlers.Reject("payload.packages: %s: this server has no packages of the architecture %s, but of %s; add it on the server with `dpkg --add-architecture`",
			name, arch, strings.Join(append(known, foreign...), ", "))
	}
	return name, nil
}

func (apt) checkVersion(version string) error { return argument.DebVersion().Check(version) }

func (apt) withoutArch(name string) string {
	short, _, _ := strings.Cut(name, ":")
	return short
}

func (a apt) availableVersions(ctx context.Context, names []string) (map[string][]string, error) {
	// The output does not show the architecture.
	byArch := make(map[string][]string)
	for _, name := range names {
		_, arch, _ := strings.Cut(name, ":")
		byArch[arch] = append(byArch[arch], aptName(name))
	}
	versions := make(map[string][]string)
	for arch, group := range byArch {
		lines, err := pkgmanager.Query(ctx, []string{"apt-cache", aptNoPatterns, "madison"}, group...)
		if err != nil {
			return nil, fmt.Errorf("list the versions of %s: %w", strings.Join(group, ", "), err)
		}
		for _, line := range lines {
			// "app | 1.1-1 | http://mirror stable/main amd64 Packages"
			f := strings.Split(line, " | ")
			if len(f) != 3 || strings.HasSuffix(f[2], " Sources") {
				continue
			}
			name := a.withoutArch(strings.TrimSpace(f[0]))
			if arch != "" {
				name += ":" + arch
			}
			versions[name] = append(versions[name], strings.TrimSpace(f[1]))
		}
	}
	return versions, nil
}

// aptNoPatterns makes apt refuse regular expressions as the names of packages. apt still
// expands globs and patterns like ?name(app), which the package argument refuses.
const aptNoPatterns = "-oAPT::Cmd::Pattern-Only=true"

// aptName returns the argument that names exactly one package. With an architecture, apt
// cannot read the end of the name as + or -.
func aptName(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return name + ":native"
}

func (apt) updateCommand() []string { return aptGet("-o", "APT::Update::Error-Mode=any", "update") }

// args returns the arguments of apt-get install.
func (apt) args(op operation) []string {
	var args []string
	for _, p := range op.Install {
		arg := aptName(p.Name)
		if p.Version != "" {
			arg += "=" + p.Version
		}
		args = append(args, arg+"+") // Without it, apt could read the end of the version as + or -.
	}
	for _, name := range op.Remove {
		args = append(args, aptName(name)+"-")
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

func (apt) repairAdvice() string { return "dpkg --configure -a" }
