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

	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

//go:embed dnf.sh
var dnfScript string

type dnf struct{}

// unlocked has dnf see the versions that versionlock hides: what is held and named is
// held no more while it changes, and what is held otherwise is refused by the handler.
const unlocked = "--disableplugin=versionlock"

// dnfCommand is dnf without questions, which does not wait for another one: the
// handler does.
func dnfCommand(args ...string) []string {
	return append([]string{"/usr/bin/dnf", "-y", "--setopt=exit_on_lock=True", "--setopt=timeout=20", "--setopt=retries=2"}, args...)
}

func (dnf) installed(ctx context.Context) (map[string]installed, error) {
	lines, err := pkgmanager.Ask(ctx, []string{"rpm", "--query", "--all", "--queryformat=%{NAME}\t%{EVR}\n"})
	if err != nil {
		return nil, fmt.Errorf("ask which packages are installed: %w", err)
	}
	all := make(map[string]installed)
	for _, line := range lines {
		if name, version, ok := strings.Cut(line, "\t"); ok && name != "gpg-pubkey" {
			// Of a package in several versions, like a kernel, the last one counts.
			all[name] = installed{State: pkgmanager.State{Version: version, Whole: true, Says: "installed"}}
		}
	}
	locks, err := pkgmanager.Ask(ctx, dnfCommand("--quiet", "--cacheonly", "versionlock", "list"))
	switch {
	case err != nil && strings.Contains(err.Error(), "No such command"):
		return all, nil // Without the plugin nothing is held.
	case err != nil:
		return nil, fmt.Errorf("ask which packages are held: %w", err)
	}
	for _, line := range locks {
		if m := dnfLock.FindStringSubmatch(line); m != nil {
			if p, ok := all[m[1]]; ok {
				p.Held = true
				all[m[1]] = p
			}
		}
	}
	return all, nil
}

// dnfLock is like "app-0:1.0-1.*".
var dnfLock = regexp.MustCompile(`^([A-Za-z0-9].*)-[0-9]+:[^-]+-[^-]+$`)

func (dnf) offers(ctx context.Context, name string) ([]string, error) {
	lines, err := pkgmanager.Ask(ctx, dnfCommand(unlocked, "--quiet", "--cacheonly", "repoquery", "--available", "--show-duplicates", "--queryformat=%{evr}"), name)
	if err != nil {
		return nil, fmt.Errorf("ask which versions of %s there are: %w", name, err)
	}
	slices.Reverse(lines)
	return lines, nil
}

func (dnf) lists() []string {
	return dnfCommand("--setopt=skip_if_unavailable=False", "makecache", "--refresh")
}

// steps are an operation in the words of dnf, one command each.
func (dnf) steps(ctx context.Context, op operation) ([][]string, error) {
	verbs := make(map[string][]string)
	for _, p := range op.Install {
		verb, name := "install", p.Name
		switch {
		case p.Version == "" && p.From != "":
			verb = "upgrade"
		case p.Version != "":
			name += "-" + p.Version
			older, err := older(ctx, p.Version, p.From)
			if err != nil {
				return nil, err
			}
			if older {
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

// older says whether a version is older than the one that is there.
func older(ctx context.Context, version, there string) (bool, error) {
	if there == "" {
		return false, nil
	}
	// Both are of letters, digits and .+~^:_- only.
	lines, err := pkgmanager.Ask(ctx, []string{"rpm", "--eval", fmt.Sprintf(`%%{lua:print(rpm.vercmp("%s","%s"))}`, version, there)})
	if err != nil {
		return false, fmt.Errorf("compare the versions %s and %s: %w", version, there, err)
	}
	return len(lines) > 0 && lines[0] == "-1", nil
}

func (d dnf) fetch(ctx context.Context, op operation) ([][]string, error) {
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
	var changes []Change
	for _, s := range steps {
		// Not -y, which it would obey.
		argv := append([]string{"/usr/bin/dnf", unlocked, "--cacheonly", "--assumeno"}, s...)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // names and versions only
		out, err := cmd.CombinedOutput()
		text := string(out)
		// It ends with 1 where there is something to do, too.
		if err != nil && !strings.Contains(text, "Operation aborted.") {
			var said complaints
			_, _ = said.Write(append(out, '\n')) // it never fails
			return nil, fmt.Errorf("dnf %s: %w: %s", s[0], err, said.String())
		}
		changes = append(changes, dnfTable(text)...)
	}
	return changes, nil
}

// dnfTable reads the table of a transaction. A row has name, architecture, version,
// repository, size and mostly its unit; a long one goes on in the next line.
func dnfTable(text string) []Change {
	var changes []Change
	var row []string
	removes, inside := false, false
	for line := range strings.Lines(text) {
		switch words := strings.Fields(line); {
		case !strings.HasPrefix(line, " "):
			inside = false
			for _, begin := range []string{"Installing", "Upgrading", "Downgrading", "Reinstalling", "Removing"} {
				inside = inside || strings.HasPrefix(line, begin) && strings.HasSuffix(strings.TrimSpace(line), ":")
			}
			removes, row = strings.HasPrefix(line, "Removing"), nil
		case inside && len(words) > 0 && words[0] != "replacing":
			if row = append(row, words...); len(row) < 5 {
				continue
			}
			c := Change{Name: row[0], To: row[2]}
			if removes {
				c.From, c.To = row[2], ""
			}
			changes, row = append(changes, c), nil
		}
	}
	return changes
}

func (d dnf) apply(ctx context.Context, op operation) ([]string, error) {
	steps, err := d.steps(ctx, op)
	if err != nil {
		return nil, err
	}
	words := func(names []string) string { return strings.Join(names, " ") }
	argv := []string{"/bin/sh", "-euc", dnfScript, Name, words(op.Release), words(op.Hold), words(op.Held)}
	for _, s := range steps {
		argv = append(argv, words(s))
	}
	return argv, nil
}

func (dnf) holds(ctx context.Context) error {
	if exec.CommandContext(ctx, "/usr/bin/dnf", "--cacheonly", "--quiet", "versionlock", "--help").Run() != nil {
		return errors.New("dnf needs its plugin versionlock for that; install it, on Fedora and RHEL python3-dnf-plugin-versionlock")
	}
	return nil
}

func (dnf) holder() string {
	for _, path := range []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid"} {
		if who := pidIn(path); who != "" {
			return who
		}
	}
	return lockedBy("/var/lib/rpm/.rpm.lock")
}

func (dnf) repair() string { return "dnf check, and dnf history" }
