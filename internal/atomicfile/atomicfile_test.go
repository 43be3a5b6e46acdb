package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	t.Run("writes_a_new_file_for_its_owner_only", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		check(t, atomicfile.Replace(path, []byte("new")))
		wantFile(t, path, "new", 0o600)
	})
	t.Run("replaces_a_symbolic_link_and_not_its_target", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
		check(t, errors.Join(os.WriteFile(target, []byte("old"), 0o644), os.Symlink(target, link)))
		check(t, atomicfile.Replace(link, []byte("new")))
		wantFile(t, link, "new", 0o600)
		wantFile(t, target, "old", 0o644)
	})
	t.Run("prepares_the_file_before_it_gets_its_name", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		check(t, atomicfile.Replace(path, []byte("new"), func(f *os.File) error { return f.Chmod(0o640) }))
		wantFile(t, path, "new", 0o640)
	})
	t.Run("keeps_the_old_file_when_preparing_fails", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		check(t, os.WriteFile(path, []byte("old"), 0o600))
		refused := errors.New("refused")
		if err := atomicfile.Replace(path, []byte("new"), func(*os.File) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("Replace = %v, want %v", err, refused)
		}
		wantFile(t, path, "old", 0o600)
	})
	t.Run("fails_where_the_directory_is_missing", func(t *testing.T) {
		t.Parallel()
		if err := atomicfile.Replace(filepath.Join(t.TempDir(), "missing", "a"), nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Replace = %v, want %v", err, fs.ErrNotExist)
		}
	})
	t.Run("leaves_nothing_behind_when_the_rename_fails", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		check(t, os.MkdirAll(filepath.Join(path, "not-empty"), 0o700))
		if err := atomicfile.Replace(path, []byte("new")); err == nil {
			t.Error("Replace has replaced a directory")
		}
		wantNames(t, filepath.Dir(path), "a")
	})
}

func TestReplaceIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	root, err := os.OpenRoot(dir)
	check(t, err)
	defer root.Close()
	check(t, atomicfile.ReplaceIn(root, "sub/a", []byte("new")))
	wantFile(t, filepath.Join(dir, "sub", "a"), "new", 0o600)
	if err := atomicfile.ReplaceIn(root, "../a", []byte("new")); err == nil {
		t.Error("ReplaceIn has written outside of its root")
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	t.Run("keeps_an_existing_file", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		check(t, atomicfile.Create(path, []byte("first")))
		if err := atomicfile.Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Create = %v, want %v", err, fs.ErrExist)
		}
		wantFile(t, path, "first", 0o600)
	})
	t.Run("lets_one_of_several_callers_win", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		errs := make([]error, 8)
		var callers sync.WaitGroup
		for i := range errs {
			callers.Go(func() { errs[i] = atomicfile.Create(path, []byte(strings.Repeat(string(rune('a'+i)), 1000))) })
		}
		callers.Wait()
		winners := 0
		for i, err := range errs {
			switch {
			case err == nil:
				winners++
				wantFile(t, path, strings.Repeat(string(rune('a'+i)), 1000), 0o600)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		}
		if winners != 1 {
			t.Errorf("%d callers created the file, want 1", winners)
		}
	})
}

func TestSyncDir(t *testing.T) {
	t.Parallel()
	check(t, atomicfile.SyncDir(t.TempDir()))
	if err := atomicfile.SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir = %v, want %v", err, fs.ErrNotExist)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFile checks content and mode of a file, and that no temporary file is beside it.
func wantFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	fi, err := os.Lstat(path)
	check(t, err)
	if string(b) != content || fi.Mode() != mode {
		t.Errorf("%s is %q with mode %v, want %q with mode %v", path, b, fi.Mode(), content, mode)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	check(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("the temporary file %s is left", e.Name())
		}
	}
}

func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %v, want %v", dir, got, names)
	}
}
