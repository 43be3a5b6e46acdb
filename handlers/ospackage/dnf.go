package ospackage

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/argument"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

//go:embed dnf.sh
var dnfScript string

// dnf is the manager of Fedora, RHEL and their derivatives.
type dnf struct{}

// unlocked makes dnf see the versions that its plugin versionlock hides. The handler
// itself rejects changes of held packages that the task does not name.
const unlocked = "--disableplugin=versionlock"

// dnfCommand returns a dnf command that asks no questions and does not wait for locks;
// the handler waits for them.
func dnfCommand(args ...string) []string {
	return append([]string{"/usr/bin/dnf", "-y", "--setopt=exit_on_lock=True", "--setopt=timeout=20", "--setopt=retries=2"}, args...)
}

func (d dnf) installed(ctx context.Context) (map[string]installedPackage, error) {
	lines, err := pkgmanager.Query(ctx, []string{"rpm", "--query", "--all", "--queryformat=%{NAME}\t%{ARCH}\t%{EVR}\n"})
	if err != nil {
		return nil, fmt.Errorf("list the installed packages: %w", err)
	}
	native, err := rpmNative(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]installedPackage)
	for _, line := range lines {
		if f := strings.Split(line, "\t"); len(f) == 3 && f[0] != "gpg-pubkey" {
			// If a package is installed in several versions, like a kernel, the last one counts.
			all[rpmName(f[0], f[1], native)] = installedPackage{State: pkgmanager.State{Version: f[2], Complete: true, Status: "installed"}}
		}
	}
	locks, err := pkgmanager.Query(ctx, dnfCommand("--quiet", "--cacheonly", "versionlock", "list"))
	switch {
	case err != nil && strings.Contains(err.Error(), "No such command"):
		return all, nil // Without the plugin, packages cannot be held.
	case err != nil:
		return nil, fmt.Errorf("list the held packages: %w", err)
	}
	for _, line := range locks {
		if m := dnfLock.FindStringSubmatch(line); m != nil {
			for name, p := range all {
				if d.withoutArch(name) == m[1] {
					p.Held = true
					all[name] = p
				}
			}
		}
	}
	return all, nil
}

// dnfLock matches an entry of versionlock, like "app-0:1.0-1.*".
var dnfLock = regexp.MustCompile(`^([A-Za-z0-9].*)-[0-9]+:[^-]+-[^-]+$`)

func (dnf) parseName(ctx context.Context, name string) (string, error) {
	if err := argument.RPMPackage().Check(name); err != nil {
		return "", err
	}
	short, arch := splitRPM(name)
	if arch == "" {
		return name, nil
	}
	native, err := rpmNative(ctx)
	return rpmName(short, arch, native), err
}

func (dnf) checkVersion(version string) error { return argument.RPMVersion().Check(version) }

func (dnf) withoutArch(name string) string {
	short, _ := splitRPM(name)
	return short
}

func (dnf) availableVersions(ctx context.Context, names []string) (map[string][]string, error) {
	argv := dnfCommand(unlocked, "--quiet", "--cacheonly", "repoquery", "--available", "--show-duplicates", "--queryformat=%{name}\t%{arch}\t%{evr}")
	lines, err := pkgmanager.Query(ctx, argv, names...)
	if err != nil {
		return nil, fmt.Errorf("list the versions of %s: %w", strings.Join(names, ", "), err)
	}
	native, err := rpmNative(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(lines)
	versions := make(map[string][]string)
	for _, line := range lines {
		if f := strings.Split(line, "\t"); len(f) == 3 {
			name := rpmName(f[0], f[1], native)
			versions[name] = append(versions[name], f[2])
		}
	}
	return versions, nil
}

func (dnf) updateCommand() []string {
	return dnfCommand("--setopt=skip_if_unavailable=False", "makecache", "--refresh")
}

// steps returns the dnf commands of an operation, without the program.
func (dnf) steps(ctx context.Context, op operation) ([][]string, error) {
	verbs := make(map[string][]string)
	for _, p := range op.Install {
		verb, name := "install", p.Name
		switch {
		case p.Version == "" && p.From != "":
			verb = "upgrade"
		case p.Version != "":
			short, arch := splitRPM(p.Name)
			name = short + "-" + p.Version
			if arch != "" {
				name += "." + arch
			}
			isOlder, err := isOlder(ctx, p.Version, p.From)
			if err != nil {
				return nil, err
			}
			if isOlder {
				verb = "downgrade"
			}
		}
		verbs[verb] = append(verbs[verb], name)
	}
	verbs["remove"] = op.Remove
	var steps [][]string
	for _, verb := range []string{"install", "upgrade", "downgrade", "remove"} {
		if len(verbs[verb]) > 0 {
			steps = append(steps, append([]string{verb}, verbs[verb]...))
		}
	}
	return steps, nil
}

// isOlder reports whether a version is older than the installed one.
func isOlder(ctx context.Context, version, installed string) (bool, error) {
	if installed == "" {
		return false, nil
	}
	// Both versions consist of letters, digits and .+~^:_- only, which is safe in Lua.
	lines, err := pkgmanager.Query(ctx, []string{"rpm", "--eval", fmt.Sprintf(`%%{lua:print(rpm.vercmp("%s","%s"))}`, version, installed)})
	if err != nil {
		return false, fmt.Errorf("compare the versions %s and %s: %w", version, installed, err)
	}
	return len(lines) > 0 && lines[0] == "-1", nil
}

func (d dnf) downloadCommands(ctx context.Context, op operation) ([][]string, error) {
	steps, err := d.steps(ctx, op)
	var all [][]string
	for _, s := range steps {
		if s[0] != "remove" {
			all = append(all, dnfCommand(append([]string{unlocked, s[0], "--downloadonly"}, s[1:]...)...))
		}
	}
	return all, err
}

func (d dnf) simulate(ctx context.Context, op operation) ([]Change, error) {
	steps, err := d.steps(ctx, op)
	if err != nil {
		return nil, err
	}
	native, err := rpmNative(ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, s := range steps {
		// With -y, dnf would ignore --assumeno.
		argv := append([]string{"/usr/bin/dnf", unlocked, "--cacheonly", "--assumeno"}, s...)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // names and versions only
		out, err := cmd.CombinedOutput()
		text := string(out)
		// The exit code is 1 also if there is something to do.
		if err != nil && !strings.Contains(text, "Operation aborted.") {
			var reasons failureReasons
			_, _ = reasons.Write(append(out, '\n')) // It never fails.
			return nil, fmt.Errorf("dnf %s: %w: %s", s[0], err, reasons.String())
		}
		changes = append(changes, parseDnfTable(text, native)...)
	}
	return changes, nil
}

// parseDnfTable reads the table of a transaction. A row has a name, an architecture, a
// version, a repository, a size and mostly its unit; a long row continues in the next line.
func parseDnfTable(text, native string) []Change {
	var changes []Change
	var row []string
	removal, inside := false, false
	for line := range strings.Lines(text) {
		switch words := strings.Fields(line); {
		case !strings.HasPrefix(line, " "):
			inside = false
			for _, prefix := range []string{"Installing", "Upgrading", "Downgrading", "Reinstalling", "Removing"} {
				inside = inside || strings.HasPrefix(line, prefix) && strings.HasSuffix(strings.TrimSpace(line), ":")
			}
			removal, row = strings.HasPrefix(line, "Removing"), nil
		case inside && len(words) > 0 && words[0] != "replacing":
			if row = append(row, words...); len(row) < 5 {
				continue
			}
			c := Change{Name: rpmName(row[0], row[1], native), To: row[2]}
			if removal {
				c.From, c.To = row[2], ""
			}
			changes, row = append(changes, c), nil
		}
	}
	return changes
}

func (d dnf) applyCommand(ctx context.Context, op operation) ([]string, error) {
	steps, err := d.steps(ctx, op)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, s := range steps {
		args = append(args, strings.Join(s, " "))
	}
	return scriptCommand(dnfScript, op, args), nil
}

func (dnf) checkHold(ctx context.Context) error {
	if exec.CommandContext(ctx, "/usr/bin/dnf", "--cacheonly", "--quiet", "versionlock", "--help").Run() != nil {
		return errors.New("dnf needs its plugin versionlock for that; install it, on Fedora and RHEL python3-dnf-plugin-versionlock")
	}
	return nil
}

func (dnf) lockHolder() string {
	for _, path := range []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid"} {
		if holder := pidFileHolder(path); holder != "" {
			return holder
		}
	}
	return fcntlHolder("/var/lib/rpm/.rpm.lock")
}

func (dnf) repairAdvice() string { return "find the problem with dnf check and dnf history" }
