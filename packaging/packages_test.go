package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
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

	"github.com/klauspost/compress/zstd"
)

// run returns what a command prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var complaint strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, complaint.String())
	}
	return string(out)
}

// unpack returns the files and directories of a tar, as "mode owner:group", with
// the content of small files.
func unpack(t *testing.T, r io.Reader) (files, contents map[string]string) {
	t.Helper()
	files, contents = map[string]string{}, map[string]string{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		name := "/" + strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Uname == "" && h.Uid == 0 { // pacman goes by the numbers
			h.Uname, h.Gname = "root", "root"
		}
		files[name] = h.FileInfo().Mode().String() + " " + h.Uname + ":" + h.Gname
		if h.Size < 1<<16 {
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			contents[name] = string(content)
		}
	}
}

// look returns the files of a package and, but for rpm, what is said about it.
func look(t *testing.T, file string) (files, control map[string]string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(file) {
	case ".deb":
		_, control = unpack(t, strings.NewReader(run(t, "dpkg-deb", "--ctrl-tarfile", file)))
		files, _ = unpack(t, strings.NewReader(run(t, "dpkg-deb", "--fsys-tarfile", file)))
	case ".apk":
		z, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		files, control = unpack(t, z)
	case ".zst":
		z, err := zstd.NewReader(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		files, control = unpack(t, z)
	case ".rpm":
		needs(t, "rpm")
		files = map[string]string{}
		for line := range strings.Lines(run(t, "rpm", "-qplv", "--nosignature", file)) {
			fields := strings.Fields(line)
			files[fields[len(fields)-1]] = fields[0] + " " + fields[2] + ":" + fields[3]
		}
	}
	return files, control
}

const (
	file    = "-rw-r--r-- root:root"
	binary  = "-rwxr-xr-x root:root"
	secret  = "-rw-r----- root:root"
	shared  = "drwxr-xr-x root:root"
	private = "drwx------ root:root"
)

// maxAgent bounds the size of the agent, in bytes; what is resident of an idle one is
// mostly its own file. `go list -deps ./cmd/tasker-agent` says what is in it.
const maxAgent = 12 << 20

// daemon is what every package of a daemon holds.
func daemon(name, state string) map[string]string {
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
		Root: root, Out: t.TempDir(), Work: t.TempDir(), Version: "1.2.3", Programs: "1.2.3-tested",
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
		"tasker-agent":        daemon("tasker-agent", "tasker-agent"),
		"tasker-controlplane": daemon("tasker-controlplane", "tasker"),
	}
	want["tasker-agent"]["/etc/tasker-agent/handlers.d"] = shared
	want["tasker-controlplane"]["/usr/share/doc/tasker-controlplane/rabbitmq.conf"] = file
	for _, name := range []string{"restricted.conf", "tasker-agent.rules", "tasker-agent.sysusers"} {
		want["tasker-agent"]["/usr/share/tasker-agent/restricted/"+name] = file
	}
	if len(names) != 3*4*2+1 {
		t.Errorf("%d files were made: %q", len(names), names)
	}
	for _, name := range names[:len(names)-1] {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, control := look(t, filepath.Join(o.Out, name))
			pkg := regexp.MustCompile(`^tasker(-agent|-controlplane)?`).FindString(name)
			for path, how := range want[pkg] {
				if files[path] != how {
					t.Errorf("%s is %q, want %q", path, files[path], how)
				}
			}
			for path := range files {
				_, expected := want[pkg][path]
				extra := strings.HasSuffix(path, "_tasker") || strings.HasPrefix(path, "/usr/share/lintian/overrides") || strings.HasSuffix(path, "/changelog.Debian.gz")
				if !expected && !extra && !strings.HasPrefix(path, "/.") && !strings.HasPrefix(files[path], "d") {
					t.Errorf("%s is in it", path)
				}
			}
			if filepath.Ext(name) == ".deb" {
				debian(t, pkg, control)
			}
			scripts(t, pkg, control)
		})
	}
	for name, check := range map[string]func(*testing.T, Options){"lintian": lintian, "rpmlint": rpmlint, "systemd-analyze verify": verify} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, o)
		})
	}
	t.Run("the agent is small", func(t *testing.T) {
		t.Parallel()
		info, err := os.Stat(filepath.Join(o.assets(), "bin", "amd64", "tasker-agent"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxAgent {
			t.Errorf("the agent for amd64 has %d bytes, want at most %d", info.Size(), maxAgent)
		}
	})
	t.Run("checksums", func(t *testing.T) {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", sums)
		cmd.Dir = o.Out
		if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != len(names)-1 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("the same again", func(t *testing.T) {
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
				t.Errorf("%s differs when it is built again (%v)", name, err)
			}
		}
	})
}

// debian checks what dpkg is told.
func debian(t *testing.T, pkg string, control map[string]string) {
	t.Helper()
	for _, line := range []string{"Package: " + pkg + "\n", "Version: 1.2.3-1\n", "Section: admin\n", "Priority: optional\n"} {
		if !strings.Contains(control["/control"], line) {
			t.Errorf("no %q in\n%s", line, control["/control"])
		}
	}
	if depends := strings.Contains(control["/control"], "Depends: adduser\n"); depends != (pkg == "tasker-controlplane") {
		t.Errorf("it depends on adduser: %v", depends)
	}
	conffiles := ""
	if pkg != "tasker" {
		conffiles = "/etc/" + pkg + "/config.yaml\n"
	}
	if control["/conffiles"] != conffiles {
		t.Errorf("conffiles are %q, want %q", control["/conffiles"], conffiles)
	}
}

// scripts checks that a daemon's package has its maintainer scripts, and the command
// line's has none.
func scripts(t *testing.T, pkg string, control map[string]string) {
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
		t.Errorf("it has maintainer scripts: %v", found)
	}
}

// Keys and templates of .goreleaser.yaml that goreleaser honours and this package
// does not are refused.
func TestDescriptionIsHonoured(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, before, after, want string }{
		{"as it is", "", "", ""},
		{"a key of nfpms", "    priority: optional\n", "    priority: optional\n    bindir: /opt\n", "bindir"},
		{"a key of a content", "dst: /usr/share/doc/tasker/copyright,", "dst: /x, target: y,", "target"},
		{"a key of builds", "    flags: [-trimpath]\n", "    flags: [-trimpath]\n    tags: [x]\n", "tags"},
		{"a template", "dst: /usr/share/doc/tasker/copyright,", `dst: "/usr/share/doc/{{ .ProjectName }}/copyright",`, "{{ .ProjectName }}"},
		{"another system", "goos: [linux]", "goos: [linux, darwin]", "darwin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			changed := strings.Replace(string(content), tt.before, tt.after, 1)
			if (changed == string(content)) != (tt.before == "") {
				t.Fatalf("there is no %q", tt.before)
			}
			if err := os.WriteFile(filepath.Join(root, ".goreleaser.yaml"), []byte(changed), fs.FileMode(0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := describe(root, "1", time.Unix(0, 0))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want an error about %q", err, tt.want)
			}
		})
	}
}
