// Package trust says whether nobody but root and the agent's user can change what
// the agent runs.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File says why somebody else can change the file or directory at a path, of which fi
// is; nil if nobody can.
func File(path string, fi fs.FileInfo) error {
	if err := owner(path, fi); err != nil {
		return err
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by its group or by others, who could have the agent run what they like: chmod go-w %[1]s", path)
	}
	return nil
}

func owner(path string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", path)
	}
	if st.Uid != 0 && int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, who could have the agent run what he likes: chown root %[1]s", path, st.Uid)
	}
	return nil
}

// maxLinks is how many links may lead to a directory.
const maxLinks = 40

// Way says why somebody else can change a directory, or put another one in its place
// since he can change one above, or one with a link on the way. It returns where the
// directory really is. One that is not there is nobody's.
func Way(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	links := maxLinks
	return way(dir, &links, File)
}

// way checks the directory itself with check.
func way(dir string, links *int, check func(string, fs.FileInfo) error) (string, error) {
	parent := "/"
	if dir != "/" {
		var err error
		if parent, err = way(filepath.Dir(dir), links, above); err != nil {
			return "", err
		}
	}
	at := filepath.Join(parent, filepath.Base(dir))
	fi, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return at, nil
	case err != nil:
		return "", err
	case fi.IsDir():
		return at, check(at, fi)
	case fi.Mode()&fs.ModeSymlink == 0:
		return "", fmt.Errorf("%s is no directory", at)
	}
	if *links--; *links < 0 {
		return "", fmt.Errorf("%s: %w", at, syscall.ELOOP)
	}
	target, err := os.Readlink(at)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(parent, target)
	}
	return way(filepath.Clean(target), links, check)
}

// above is File for the directories above: in a sticky one nobody but its owner can
// replace what is not his own.
func above(path string, fi fs.FileInfo) error {
	if fi.Mode()&fs.ModeSticky != 0 {
		return owner(path, fi)
	}
	return File(path, fi)
}
