package packaging

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	file    = "-rw-r--r-- root:root"
	binary  = "-rwxr-xr-x root:root"
	secret  = "-rw-r----- root:root"
	shared  = "drwxr-xr-x root:root"
	private = "drwx------ root:root"
)

// maxAgentSize is the largest allowed size of the agent, in bytes. The resident memory of
// an idle agent is mostly its program. `go list -deps ./cmd/tasker-agent` lists its parts.
const maxAgentSize = 12 << 20

// daemonFiles returns the files that every package of a daemon contains.
func daemonFiles(name, state string) map[string]string {
	return map[string]string{
		"/usr/bin/" + name: binary,
		"/usr/lib/systemd/system/" + name + ".service":   file,
		"/usr/share/bash-completion/completions/" + name: file,
		"/usr/share/man/man8/" + name + ".8.gz":          file,
		"/usr/share/doc/" + name + "/copyright":          file,
		"/etc/" + name + "/config.yaml":                  secret,
		"/var/lib/" + state:                              private,
	}
}

func TestPackages(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Root: root, Out: t.TempDir(), Work: t.TempDir(), Version: "1.2.3", ProgramVersion: "1.2.3-tested",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	names, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		"tasker": {
			"/usr/bin/tasker": binary,
			"/usr/share/bash-completion/completions/tasker":    file,
			"/usr/share/fish/vendor_completions.d/tasker.fish": file,
			"/usr/share/man/man1/tasker.1.gz":                  file,
			"/usr/share/doc/tasker/copyright":                  file,
		},
		"tasker-agent":        daemonFiles("tasker-agent", "tasker-agent"),
		"tasker-controlplane": daemonFiles("tasker-controlplane", "tasker"),
	}
	want["tasker-agent"]["/etc/tasker-agent/handlers.d"] = shared
	want["tasker-controlplane"]["/usr/share/doc/tasker-controlplane/rabbitmq.conf"] = file
	for _, name := range []string{"restricted.conf", "tasker-agent.rules", "tasker-agent.sysusers"} {
		want["tasker-agent"]["/usr/share/tasker-agent/restricted/"+name] = file
	}
	if len(names) != 3*4*2+1 {
		t.Errorf("%d files were created: %q", len(names), names)
	}
	for _, name := range names[:len(names)-1] {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, control := readPackage(t, filepath.Join(o.Out, name))
			pkg := regexp.MustCompile(`^tasker(-agent|-controlplane)?`).FindString(name)
			for path, mode := range want[pkg] {
				if files[path] != mode {
					t.Errorf("%s is %q, want %q", path, files[path], mode)
				}
			}
			for path := range files {
				_, expected := want[pkg][path]
				extra := strings.HasSuffix(path, "_tasker") || strings.HasPrefix(path, "/usr/share/lintian/overrides") || strings.HasSuffix(path, "/changelog.Debian.gz")
				if !expected && !extra && !strings.HasPrefix(path, "/.") && !strings.HasPrefix(files[path], "d") {
					t.Errorf("the package contains %s, which is not expected", path)
				}
			}
			if filepath.Ext(name) == ".deb" {
				checkControl(t, pkg, control)
			}
			checkScripts(t, pkg, control)
		})
	}
	for name, check := range map[string]func(*testing.T, Options){"lintian": checkLintian, "rpmlint": checkRPMLint, "systemd-analyze_verify": checkUnits} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, o)
		})
	}
	t.Run("size_of_the_agent", func(t *testing.T) {
		t.Parallel()
		info, err := os.Stat(filepath.Join(o.assets(), "bin", "amd64", "tasker-agent"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxAgentSize {
			t.Errorf("the agent for amd64 has %d bytes, want at most %d", info.Size(), maxAgentSize)
		}
	})
	t.Run("checksums", func(t *testing.T) {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", checksumsFile)
		cmd.Dir = o.Out
		if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != len(names)-1 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("reproducible", func(t *testing.T) {
		t.Parallel()
		again := o
		again.Out, again.Work, again.Architectures = t.TempDir(), t.TempDir(), []string{"amd64"}
		names, err := Build(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names[:len(names)-1] {
			first, err := checksum(filepath.Join(o.Out, name))
			if err != nil {
				t.Fatal(err)
			}
			if second, err := checksum(filepath.Join(again.Out, name)); err != nil || first != second {
				t.Errorf("%s differs in a second build (%v)", name, err)
			}
		}
	})
}

// checkControl checks the control files of a Debian package.
func checkControl(t *testing.T, pkg string, control map[string]string) {
	t.Helper()
	for _, line := range []string{"Package: " + pkg + "\n", "Version: 1.2.3-1\n", "Section: admin\n", "Priority: optional\n"} {
		if !strings.Contains(control["/control"], line) {
			t.Errorf("no %q in\n%s", line, control["/control"])
		}
	}
	if depends := strings.Contains(control["/control"], "Depends: adduser\n"); depends != (pkg == "tasker-controlplane") {
		t.Errorf("depends on adduser: %v", depends)
	}
	conffiles := ""
	if pkg != "tasker" {
		conffiles = "/etc/" + pkg + "/config.yaml\n"
	}
	if control["/conffiles"] != conffiles {
		t.Errorf("conffiles are %q, want %q", control["/conffiles"], conffiles)
	}
}

// checkScripts checks that the package of a daemon has maintainer scripts, and that of
// the command line has none.
func checkScripts(t *testing.T, pkg string, control map[string]string) {
	t.Helper()
	if control == nil {
		return
	}
	found := false
	for _, name := range slices.Sorted(maps.Keys(control)) {
		text := control[name]
		if strings.Contains(text, "\nprogram="+pkg+"\n") {
			found = true
		}
		if strings.HasPrefix(text, "#!/bin/sh") {
			for _, check := range [][]string{{"sh", "-n"}, {"shellcheck", "-"}} {
				if _, err := exec.LookPath(check[0]); err != nil && os.Getenv("CI") != "true" {
					continue
				}
				cmd := exec.CommandContext(t.Context(), check[0], check[1:]...)
				cmd.Stdin = strings.NewReader(text)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			}
		}
	}
	if found != (pkg != "tasker") {
		t.Errorf("has maintainer scripts: %v", found)
	}
}

// TestReadDescription_unsupported_keys: keys and templates of .goreleaser.yaml that
// goreleaser supports and this package does not are errors.
func TestReadDescription_unsupported_keys(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, before, after, want string }{
		{"unchanged", "", "", ""},
		{"key of nfpms", "    priority: optional\n", "    priority: optional\n    bindir: /opt\n", "bindir"},
		{"key of a content", "dst: /usr/share/doc/tasker/copyright,", "dst: /x, target: y,", "target"},
		{"key of builds", "    flags: [-trimpath]\n", "    flags: [-trimpath]\n    tags: [x]\n", "tags"},
		{"template", "dst: /usr/share/doc/tasker/copyright,", `dst: "/usr/share/doc/{{ .ProjectName }}/copyright",`, "{{ .ProjectName }}"},
		{"another system", "goos: [linux]", "goos: [linux, darwin]", "darwin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			changed := strings.Replace(string(content), tt.before, tt.after, 1)
			if (changed == string(content)) != (tt.before == "") {
				t.Fatalf(".goreleaser.yaml has no %q", tt.before)
			}
			if err := os.WriteFile(filepath.Join(root, ".goreleaser.yaml"), []byte(changed), fs.FileMode(0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := readDescription(root, "1", time.Unix(0, 0))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want an error about %q", err, tt.want)
			}
		})
	}
}
