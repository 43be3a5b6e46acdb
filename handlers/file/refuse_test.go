package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/file"
)

func TestRejectFilesOutsideOfAllowedDirectories(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeFile("a", "old", 0o644)
	outside := `{"path":"` + f.root + `/b","content":""}`
	for _, payload := range []string{
		outside,
		`{"path":"` + f.dir + `","content":""}`,
		`{"path":"` + f.dir + `-b/a","content":""}`,
		`{"path":"` + f.dir + `/../b","content":""}`,
		`{"path":"` + f.dir + `//a","content":""}`,
		`{"path":"` + f.dir + `/./a","content":""}`,
		`{"path":"` + f.dir + `/a\u0000","content":""}`,
		f.payload(strings.Repeat("a", 250), `"content":""`),
	} {
		for i, got := range []result{f.dryRun(payload), f.perform(payload), f.undo(payload)} {
			if !got.rejected() {
				t.Errorf("%d %s: %+v", i, payload, got)
			}
		}
	}
	f.allow()
	got := f.perform(f.payload("a", `"content":""`))
	if want := `add its directory, "` + f.dir + `", or one above it to handlers.file.allow`; !got.rejected() || !strings.Contains(got.err.Error(), want) {
		t.Errorf("got %v, want %s", got.err, want)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- old"})
}

func TestInvalidAllowList(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "/", "etc", "/etc/", "/etc/../etc", "/etc//app", "*"} {
		if _, err := file.New(file.Options{Allow: []string{"/etc", dir}}); err == nil || !strings.Contains(err.Error(), "handlers.file: allow[1]") {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestRejectSpecialFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mkdir("outside")
	f.mkdir("app/dir")
	f.writeFile("real", "old", 0o644)
	for name, to := range map[string]string{
		"link": "real", "dangling": "none", "away": "../outside", "far": "/etc", "elsewhere": "../outside/a", "within": "dir", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(f.dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(f.dir, "real"), 3); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(f.dir, "big")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<40); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"dir":       "is a directory",
		"within":    "is a symbolic link: name the file to which it points",
		"link":      "is a symbolic link",
		"dangling":  "is a symbolic link",
		"elsewhere": "is a symbolic link",
		"pipe":      "is a special file",
		"big":       "this handler supports files of at most 16 MiB",
		"away/a":    "are not followed",
		"far/a":     "are not followed",
		"loop/a":    "loop",
		"pipe/a":    "is not a directory",
		"real/a":    "is not a directory",
		".tasker-x": "names that begin with .tasker- are reserved for temporary files",
		"none/a":    "the directory " + f.dir + "/none does not exist: make it first",
	} {
		payload := f.payload(name, `"content":"new"`)
		for i, got := range []result{f.dryRun(payload), f.perform(payload)} {
			if !got.rejected() || !strings.Contains(got.err.Error(), want) {
				t.Errorf("%d %s: %v, want %s", i, name, got.err, want)
			}
		}
	}
	// A link to a directory inside is followed. Removing a file from a directory that does
	// not exist changes nothing.
	if got := f.perform(f.payload("within/a", `"content":"new"`)); got.err != nil || !got.Changed {
		t.Errorf("got %+v", got)
	}
	if content, err := os.ReadFile(filepath.Join(f.dir, "dir/a")); err != nil || string(content) != "new" {
		t.Errorf("got %q, %v", content, err)
	}
	if got := f.perform(f.payload("none/a", `"state":"absent"`)); got.err != nil || got.Changed {
		t.Errorf("got %+v", got)
	}
	if left, err := os.ReadDir(filepath.Join(f.root, "outside")); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}
