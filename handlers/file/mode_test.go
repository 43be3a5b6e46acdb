package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestSpecialModeBits(t *testing.T) {
	t.Parallel()
	const setuid, setgid, sticky = 0o755 | os.ModeSetuid, 0o755 | os.ModeSetgid, 0o755 | os.ModeSticky
	for name, tt := range map[string]struct {
		before        os.FileMode
		more          string
		after         os.FileMode
		from, to      string
		needsRoot     bool
		wantUnchanged bool
	}{
		"new content keeps setuid":     {setuid, `"content":"new"`, setuid, "4755", "4755", false, false},
		"new content keeps setgid":     {setgid, `"content":"new"`, setgid, "2755", "2755", false, false},
		"new content keeps sticky":     {sticky, `"content":"new"`, sticky, "1755", "1755", false, false},
		"a new owner keeps setuid":     {setuid, `"content":"old","owner":"12345"`, setuid, "4755", "4755", true, false},
		"the mode of the payload wins": {setuid, `"content":"old","mode":"0755"`, 0o755, "4755", "0755", false, false},
		"setuid can be added":          {0o755, `"content":"old","mode":"4755"`, setuid, "0755", "4755", false, false},
		"all bits":                     {0o600, `"content":"old","mode":"7711"`, 0o711 | os.ModeSetuid | os.ModeSetgid | os.ModeSticky, "0600", "7711", false, false},
		"equal":                        {setuid, `"content":"old","mode":"4755"`, setuid, "4755", "4755", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.needsRoot && os.Geteuid() != 0 {
				t.Skip("skipped: only root can change the owner of files")
			}
			f := newFixture(t)
			f.writeFile("a", "old", tt.before)
			path, payload := filepath.Join(f.dir, "a"), f.payload("a", tt.more)
			for _, got := range []result{f.dryRun(payload), f.perform(payload)} {
				if got.err != nil || got.Changed == tt.wantUnchanged || got.From.Mode != tt.from || got.To.Mode != tt.to {
					t.Errorf("got %+v, %+v to %+v", got, got.From, got.To)
				}
			}
			if got := modeOf(t, path); got != tt.after {
				t.Errorf("the mode is %v, want %v", got, tt.after)
			}
			if got := f.undo(payload); got.err != nil || got.Changed == tt.wantUnchanged || got.To.Mode != tt.from {
				t.Errorf("undo: %+v", got)
			}
			if got := modeOf(t, path); got != tt.before {
				t.Errorf("after the undo the mode is %v, want %v", got, tt.before)
			}
		})
	}
}

func TestResultNamesBrokenHardLinks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		more  string
		links int
		want  string
	}{
		{`"content":"new"`, 1, "the file had another hard link, which keeps the old file"},
		{`"state":"absent"`, 2, "the file had 2 other hard links, which keep the old file"},
		{`"content":"new"`, 0, ""},
		{`"content":"old"`, 1, ""}, // Nothing changes.
	} {
		f := newFixture(t)
		f.writeFile("a", "old", 0o644)
		path := filepath.Join(f.dir, "a")
		for i := range tt.links {
			if err := os.Link(path, filepath.Join(f.root, "other"+string(rune('0'+i)))); err != nil {
				t.Fatal(err)
			}
		}
		for _, got := range []result{f.dryRun(f.payload("a", tt.more)), f.perform(f.payload("a", tt.more))} {
			if got.err != nil || got.Note != tt.want {
				t.Errorf("%s: got %+v, want %s", tt.more, got, tt.want)
			}
		}
		if tt.links == 0 {
			continue
		}
		if content, err := os.ReadFile(filepath.Join(f.root, "other0")); err != nil || string(content) != "old" {
			t.Errorf("got %q, %v", content, err)
		}
	}
}

func TestDryRunFailsWhereTheTaskWouldFail(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can mount")
	}
	mount := func(t *testing.T, source, target string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount(source, target, "", flags, ""); err != nil {
			t.Skipf("skipped: cannot mount: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	for name, tt := range map[string]struct {
		setUp func(t *testing.T, f *fixture)
		want  string
	}{
		"mount point": {func(t *testing.T, f *fixture) {
			f.writeFile("source", "old", 0o644)
			mount(t, filepath.Join(f.dir, "source"), filepath.Join(f.dir, "a"), syscall.MS_BIND)
		}, "is a mount point"},
		"read-only file system": {func(t *testing.T, f *fixture) {
			mount(t, f.dir, f.dir, syscall.MS_BIND)
			if err := syscall.Mount("", f.dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
				t.Skipf("skipped: cannot mount: %v", err)
			}
		}, "is read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.writeFile("a", "old", 0o644)
			tt.setUp(t, f)
			for _, more := range []string{`"content":"new"`, `"state":"absent"`} {
				payload := f.payload("a", more)
				for i, got := range []result{f.dryRun(payload), f.perform(payload)} {
					if !got.rejected() || !strings.Contains(got.err.Error(), tt.want) || got.Changed {
						t.Errorf("%d %s: got %+v, want %s", i, more, got, tt.want)
					}
				}
			}
			// A file that is as desired needs no change.
			if got := f.perform(f.payload("a", `"content":"old"`)); got.err != nil || got.Changed {
				t.Errorf("got %+v", got)
			}
		})
	}
}
