package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// foreign is a user other than root.
const foreign = 12345

// Another user owns a directory on the way to the file, and replaces what is in it.
func TestLinksOfOtherUsersDoNotRedirectTheAgent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can change the owner of files")
	}
	chown := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Lchown(path, foreign, foreign); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		allow, path string
		setUp       func(f *fixture) error
		want        string // of the rejection; "" if the file is written
	}{
		"the parent of the allowed directory": {"home/conf", "home/conf/a", func(f *fixture) error {
			chown(f.t, filepath.Join(f.root, "home"))
			return os.Symlink("../private", filepath.Join(f.root, "home/conf"))
		}, "home belongs to user 12345"},
		"the parent of the allowed directory, which is not replaced": {"home/conf", "home/conf/a", func(f *fixture) error {
			chown(f.t, filepath.Join(f.root, "home"))
			return os.Mkdir(filepath.Join(f.root, "home/conf"), 0o755)
		}, "home belongs to user 12345"},
		"an entry of a sticky directory": {"home/conf", "home/conf/a", func(f *fixture) error {
			conf := filepath.Join(f.root, "home/conf")
			err := errors.Join(os.Chmod(filepath.Join(f.root, "home"), 0o777|os.ModeSticky), os.Mkdir(conf, 0o755))
			chown(f.t, conf)
			return err
		}, "conf belongs to user 12345"},
		"a link in a directory of the user": {"home", "home/conf/a", func(f *fixture) error {
			chown(f.t, filepath.Join(f.root, "home"))
			return errors.Join(os.Mkdir(filepath.Join(f.root, "home/other"), 0o755), os.Symlink("other", filepath.Join(f.root, "home/conf")))
		}, "the link conf is not followed"},
		"a directory of the user": {"home", "home/conf/a", func(f *fixture) error {
			err := os.Mkdir(filepath.Join(f.root, "home/conf"), 0o755)
			chown(f.t, filepath.Join(f.root, "home"))
			chown(f.t, filepath.Join(f.root, "home/conf"))
			return err
		}, ""},
		"a link of root": {"home", "home/conf/a", func(f *fixture) error {
			return errors.Join(os.Mkdir(filepath.Join(f.root, "home/other"), 0o755), os.Symlink("other", filepath.Join(f.root, "home/conf")))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.mkdir("home")
			f.mkdir("private")
			if err := tt.setUp(f); err != nil {
				t.Fatal(err)
			}
			f.allow(filepath.Join(f.root, tt.allow))
			payload := `{"path":"` + filepath.Join(f.root, tt.path) + `","content":"new"}`
			for i, got := range []result{f.dryRun(payload), f.perform(payload), f.undo(payload)} {
				switch {
				case tt.want == "" && got.err != nil:
					t.Errorf("%d: %v", i, got.err)
				case tt.want != "" && (!got.rejected() || !strings.Contains(got.err.Error(), tt.want)):
					t.Errorf("%d: got %v, want %s", i, got.err, tt.want)
				}
			}
			if left, err := os.ReadDir(filepath.Join(f.root, "private")); err != nil || len(left) > 0 {
				t.Errorf("private: %v, %v", left, err)
			}
		})
	}
}
