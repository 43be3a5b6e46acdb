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
	switch {
	case !ok:
		return fmt.Errorf("%s: its owner cannot be told", path)
	case st.Uid == 0 || int64(st.Uid) == int64(os.Geteuid()):
		return nil
	}
	chown := "chown"
	if fi.Mode()&fs.ModeSymlink != 0 {
		chown = "chown -h"
	}
	return fmt.Errorf("%s belongs to user %d, who could have the agent run what he likes: %s root %[1]s", path, st.Uid, chown)
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
	return way(dir, &links, directory)
}

// Path says the same of a file. Where a link leads to one, it is of that file, and of
// the way there.
func Path(file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	links := maxLinks
	_, err = way(file, &links, File)
	return err
}

// way checks what is at the end of a path with check, and what leads there.
func way(path string, links *int, check func(string, fs.FileInfo) error) (string, error) {
	parent := "/"
	if path != "/" {
		var err error
		if parent, err = way(filepath.Dir(path), links, above); err != nil {
			return "", err
		}
	}
	at := filepath.Join(parent, filepath.Base(path))
	fi, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return at, nil
	case err != nil:
		return "", err
	case fi.Mode()&fs.ModeSymlink == 0:
		return at, check(at, fi)
	}
	if *links--; *links < 0 {
		return "", fmt.Errorf("%s: %w", at, syscall.ELOOP)
	}
	switch in, err := os.Stat(parent); {
	case err != nil:
		return "", err
	case in.Mode()&fs.ModeSticky != 0: // whose link it is can replace it
		if err := owner(at, fi); err != nil {
			return "", err
		}
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

func directory(path string, fi fs.FileInfo) error {
	if !fi.IsDir() {
		return fmt.Errorf("%s is no directory", path)
	}
	return File(path, fi)
}

// above is for the directories above: in a sticky one nobody but its owner can replace
// what is not his own.
func above(path string, fi fs.FileInfo) error {
	if fi.IsDir() && fi.Mode()&fs.ModeSticky != 0 {
		return owner(path, fi)
	}
	return directory(path, fi)
}
