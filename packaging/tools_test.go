package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// needs skips a test of a tool that is not there. CI has them all.
func needs(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: `make test-packages` installs it, as root on Debian", tool)
	}
	t.Skipf("left out: it needs %s; `make test-packages` installs it, as root on Debian", tool)
}

// The control plane can do little harm, nor can an agent without root.
func TestExposure(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-analyze")
	for _, tt := range []struct {
		unit  string
		files []string
		most  float64
	}{
		{"tasker-controlplane.service", []string{"units/tasker-controlplane.service"}, 2.0},
		{"tasker-agent.service", []string{"units/tasker-agent.service", "units/restricted/restricted.conf"}, 2.5},
	} {
		t.Run(tt.unit, func(t *testing.T) {
			t.Parallel()
			var all []byte
			for _, name := range tt.files {
				text, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, text...)
			}
			path := filepath.Join(t.TempDir(), tt.unit)
			if err := os.WriteFile(path, all, 0o600); err != nil {
				t.Fatal(err)
			}
			out := run(t, "systemd-analyze", "security", "--offline=yes", "--no-pager", path)
			match := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
			if match == nil {
				t.Fatalf("no exposure in\n%s", out)
			}
			if exposure, err := strconv.ParseFloat(match[1], 64); err != nil || exposure > tt.most {
				t.Errorf("the exposure is %s, want at most %v\n%s", match[1], tt.most, out)
			}
		})
	}
}

// verify has systemd read the units, whose programs are not installed here.
func verify(t *testing.T, o Options) {
	needs(t, "systemd-analyze")
	units, err := filepath.Glob("units/*.service")
	if err != nil || len(units) < 2 {
		t.Fatalf("the units are %q (%v)", units, err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		here := strings.ReplaceAll(string(text), "=/usr/bin/tasker", "="+filepath.Join(o.assets(), "bin", runtime.GOARCH, "tasker"))
		copied := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(copied, []byte(here), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, copied)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 { //nolint:gosec // our units
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// lintian has no errors or warnings for the Debian packages but what the overrides
// give reasons for.
func lintian(t *testing.T, o Options) {
	needs(t, "lintian")
	debs := packages(t, o, "deb")
	args := append([]string{"--no-cfg", "--allow-root"}, debs...)
	if out, err := exec.CommandContext(t.Context(), "lintian", args...).CombinedOutput(); err != nil || len(out) > 0 { //nolint:gosec // our packages
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// rpmlint has nothing to say of the RPM packages but what rpmlint.toml gives reasons for.
func rpmlint(t *testing.T, o Options) {
	needs(t, "rpmlint")
	// Debian's cpio, to which it hands a package, would write the files to /.
	shim := t.TempDir()
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shim, "cpio"), []byte("#!/bin/sh\nexec "+cpio+" --no-absolute-filenames \"$@\"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "rpmlint", append([]string{"--config", "rpmlint.toml", "--strict"}, packages(t, o, "rpm")...)...) //nolint:gosec // our packages
	cmd.Env = append(os.Environ(), "PATH="+shim+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 errors, 0 warnings") {
		t.Errorf("rpmlint: %v\n%s", err, out)
	}
}

// packages are the files of a format.
func packages(t *testing.T, o Options, format string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(o.Out, "*."+format))
	if err != nil || len(found) == 0 {
		t.Fatalf("there are no packages (%v)", err)
	}
	return found
}
