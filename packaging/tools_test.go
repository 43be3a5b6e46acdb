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

// requireTool skips the test if a tool is missing, and fails it in CI.
func requireTool(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: `make test-packages` installs it, as root on Debian", tool)
	}
	t.Skipf("%s is missing: `make test-packages` installs it, as root on Debian", tool)
}

// TestExposure bounds the exposure of the confined units by systemd's own measure.
func TestExposure(t *testing.T) {
	t.Parallel()
	requireTool(t, "systemd-analyze")
	for _, tt := range []struct {
		unit  string
		files []string
		limit float64
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
				t.Fatalf("systemd-analyze printed no exposure:\n%s", out)
			}
			if exposure, err := strconv.ParseFloat(match[1], 64); err != nil || exposure > tt.limit {
				t.Errorf("the exposure is %s, want at most %v\n%s", match[1], tt.limit, out)
			}
		})
	}
}

// checkUnits lets systemd verify the units, with the paths of the programs just built.
func checkUnits(t *testing.T, o Options) {
	requireTool(t, "systemd-analyze")
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
		replaced := strings.ReplaceAll(string(text), "=/usr/bin/tasker", "="+filepath.Join(o.assets(), "bin", runtime.GOARCH, "tasker"))
		copied := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(copied, []byte(replaced), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, copied)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 { //nolint:gosec // our units
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// checkLintian checks that lintian has no findings beyond the overrides.
func checkLintian(t *testing.T, o Options) {
	requireTool(t, "lintian")
	debs := packageFiles(t, o, "deb")
	args := append([]string{"--no-cfg", "--allow-root"}, debs...)
	if out, err := exec.CommandContext(t.Context(), "lintian", args...).CombinedOutput(); err != nil || len(out) > 0 { //nolint:gosec // our packages
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// checkRPMLint checks that rpmlint has no findings beyond the filters of rpmlint.toml.
func checkRPMLint(t *testing.T, o Options) {
	requireTool(t, "rpmlint")
	// rpmlint runs cpio, and Debian's cpio would write the files to /.
	shim := t.TempDir()
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shim, "cpio"), []byte("#!/bin/sh\nexec "+cpio+" --no-absolute-filenames \"$@\"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "rpmlint", append([]string{"--config", "rpmlint.toml", "--strict"}, packageFiles(t, o, "rpm")...)...) //nolint:gosec // our packages
	cmd.Env = append(os.Environ(), "PATH="+shim+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 errors, 0 warnings") {
		t.Errorf("rpmlint: %v\n%s", err, out)
	}
}

// packageFiles returns the packages of one format.
func packageFiles(t *testing.T, o Options, format string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(o.Out, "*."+format))
	if err != nil || len(found) == 0 {
		t.Fatalf("no .%s packages were built (%v)", format, err)
	}
	return found
}
