package privatefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// write writes a file with exactly the mode, in spite of the umask.
func write(t *testing.T, dir string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(path, []byte("s3cret"), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	t.Parallel()
	for mode, private := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o644: false, 0o604: false, 0o602: false, 0o601: false, 0o660: false, 0o666: false, 0o610: false,
	} {
		path := write(t, t.TempDir(), mode)
		content, err := privatefile.Read(path)
		switch {
		case private && (err != nil || string(content) != "s3cret"):
			t.Errorf("mode %o: %q, %v", mode, content, err)
		case !private && (!errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+path)):
			t.Errorf("mode %o: %q, %v", mode, content, err)
		}
	}
	if _, err := privatefile.Read(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := privatefile.Read(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

// Only root's files may be readable by a group.
func TestCheck_group(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can change the owner of a file")
	}
	path := write(t, t.TempDir(), 0o640)
	if err := privatefile.Check(path); err != nil {
		t.Errorf("root's file: %v", err)
	}
	if err := errors.Join(os.Chown(path, 0, 12345), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Check(path); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 640 "+path) {
		t.Errorf("root's file for a service: %v", err)
	}
	if err := errors.Join(os.Chown(path, 12345, 12345), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Check(path); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("another user's file: %v", err)
	}
}

func TestCheck_link(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "link to it")
	if err := os.Symlink(write(t, t.TempDir(), 0o644), link); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Check(link); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 '"+link+"'") {
		t.Errorf("a link to a public file: %v", err)
	}
}

func TestCheck_credentials_of_systemd(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	path := write(t, dir, 0o440)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	if err := privatefile.Check(path); err != nil {
		t.Errorf("mode 0440: %v", err)
	}
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Check(path); !errors.Is(err, privatefile.ErrExposed) {
		t.Errorf("mode 0444: %v", err)
	}
}
