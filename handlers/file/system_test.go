package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can change the owner of files")
	}
	f := newFixture(t)
	f.writeFile("a", "old", 0o640)
	path := filepath.Join(f.dir, "a")
	if err := os.Chown(path, 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setxattr(path, "user.note", []byte("kept"), 0); err != nil && !errors.Is(err, syscall.ENOTSUP) {
		t.Fatal(err)
	}
	owner := func() []uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatal("no owner")
		}
		return []uint32{st.Uid, st.Gid}
	}
	payload := f.payload("a", `"content":"new","owner":"nobody","backup":true`)
	got := f.perform(payload)
	if got.err != nil || got.To.Owner != "nobody" || got.From.Owner != "daemon" || got.To.Group != got.From.Group || !slices.Equal(owner(), []uint32{65534, 2}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	value := make([]byte, 10)
	if n, err := syscall.Getxattr(path, "user.note", value); !errors.Is(err, syscall.ENOTSUP) && string(value[:max(n, 0)]) != "kept" {
		t.Errorf("the attribute is %q, %v", value[:max(n, 0)], err)
	}
	if got := f.perform(f.payload("a", `"content":"new","owner":"12345","group":"54321"`)); got.err != nil || got.To.Owner != "12345" || !slices.Equal(owner(), []uint32{12345, 54321}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	if got := f.undo(payload); got.err != nil || !got.Changed || !slices.Equal(owner(), []uint32{65534, 2}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	// New files get the group of a directory with the setgid bit.
	if err := errors.Join(os.Chown(f.dir, 0, 7), os.Chmod(f.dir, 0o755|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(f.payload("b", `"content":""`)); got.err != nil || got.To.Owner != "root" || got.To.Group != "lp" {
		t.Errorf("got %+v", got)
	}
}

// The allowed directory or the snapshots are on a full disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can mount a full disk")
	}
	for _, full := range []string{"app", "before"} {
		t.Run(full, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			disk := filepath.Join(f.root, full)
			if full == "before" {
				f.mkdir(full)
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k,mode=755"); err != nil {
				t.Skipf("skipped: cannot mount a full disk: %v", err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			f.writeFile("a", strings.Repeat("old\n", 5_000), 0o640)
			filler := filepath.Join(disk, "filler")
			if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			payload := f.payload("a", `"content":"`+strings.Repeat("new ", 5_000)+`","backup":true`)
			for _, more := range []string{payload, f.payload("a", `"state":"absent"`)} {
				if full == "app" && more != payload {
					continue // The removal needs no space there.
				}
				got := f.perform(more)
				if got.err == nil || got.Changed || !strings.Contains(got.err.Error(), "the task did not change "+f.dir+"/a") || !strings.Contains(got.err.Error(), "no space left on device: free some space") {
					t.Errorf("got %+v", got)
				}
			}
			if got := f.undo(payload); got.err != nil || got.Changed {
				t.Errorf("undo: %+v", got)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			f.wantFiles(map[string]string{"a": "rw-r----- " + strings.Repeat("old\n", 5_000)})
			// With free space the task succeeds. The undo needs space too.
			got := f.perform(f.payload("a", `"content":"`+strings.Repeat("new ", 5_000)+`"`))
			if got.err != nil || !got.Changed {
				t.Fatalf("got %+v", got)
			}
			if full == "app" {
				if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("the disk is not full: %v", err)
				}
				if got := f.undo(payload); got.err == nil || got.Changed || !strings.Contains(got.err.Error(), "is as the task left it") || !strings.Contains(got.err.Error(), "free some space") {
					t.Errorf("undo: %+v", got)
				}
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.undo(payload); got.err != nil || !got.Changed {
				t.Errorf("undo: %+v", got)
			}
			f.wantFiles(map[string]string{"a": "rw-r----- " + strings.Repeat("old\n", 5_000)})
		})
	}
}
