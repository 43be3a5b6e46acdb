// Package trust checks that only root and the agent's user can change the files that the
// agent runs. Anyone else who can change one of them could run programs as the agent.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// CheckInfo returns an error if another user can change the file or directory at path;
// fi describes it.
func CheckInfo(path string, fi fs.FileInfo) error {
	if err := checkOwner(path, fi); err != nil {
		return err
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is writable by its group or by others, who could run programs as the agent: chmod go-w %[1]s", path)
	}
	return nil
}

func checkOwner(path string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("%s: its owner is unknown", path)
	case st.Uid == 0 || int64(st.Uid) == int64(os.Geteuid()):
		return nil
	}
	chown := "chown"
	if fi.Mode()&fs.ModeSymlink != 0 {
		chown = "chown -h"
	}
	return fmt.Errorf("%s belongs to user %d, who could run programs as the agent: %s root %[1]s", path, st.Uid, chown)
}

// maxLinks is the number of symbolic links that are followed in one path, as in Linux.
const maxLinks = 40

// CheckDir returns the real path of a directory, or an error if another user can change
// the directory or replace it. A user can replace it if the user can change a directory
// above it or a symbolic link on the way to it. A missing directory is no error.
func CheckDir(dir string) (string, error) {
	return walkFromRoot(dir, checkDirectory)
}

// CheckFile returns an error if another user can change or replace a file, in the sense of
// CheckDir. If the path is a symbolic link, its target is checked.
func CheckFile(file string) error {
	_, err := walkFromRoot(file, CheckInfo)
	return err
}

// CheckPlace returns the real path of a directory, or an error if another user can replace
// the directory by another one or by a link. Unlike in CheckDir, others may change what is in
// the directory. A missing directory is no error.
func CheckPlace(dir string) (string, error) {
	return walkFromRoot(dir, func(path string, fi fs.FileInfo) error {
		if !fi.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		parent, err := os.Lstat(filepath.Dir(path))
		if err != nil {
			return err
		}
		return CheckEntry(path, parent, fi)
	})
}

// CheckEntry returns an error if another user can replace the file, directory or link at
// path. parent and fi describe its directory and itself.
func CheckEntry(path string, parent, fi fs.FileInfo) error {
	if err := checkParent(filepath.Dir(path), parent); err != nil {
		return err
	}
	if parent.Mode()&fs.ModeSticky != 0 { // The owner of an entry can replace it.
		return checkOwner(path, fi)
	}
	return nil
}

func walkFromRoot(path string, check func(string, fs.FileInfo) error) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	links := maxLinks
	return walk(path, &links, check)
}

// walk resolves path. It applies check to the last element and checkParent to every
// directory above it.
func walk(path string, links *int, check func(string, fs.FileInfo) error) (string, error) {
	parent := "/"
	if path != "/" {
		var err error
		if parent, err = walk(filepath.Dir(path), links, checkParent); err != nil {
			return "", err
		}
	}
	resolved := filepath.Join(parent, filepath.Base(path))
	fi, err := os.Lstat(resolved)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return resolved, nil
	case err != nil:
		return "", err
	case fi.Mode()&fs.ModeSymlink == 0:
		return resolved, check(resolved, fi)
	}
	if *links--; *links < 0 {
		return "", fmt.Errorf("%s: %w", resolved, syscall.ELOOP)
	}
	in, err := os.Stat(parent)
	if err == nil {
		err = CheckEntry(resolved, in, fi)
	}
	if err != nil {
		return "", err
	}
	target, err := os.Readlink(resolved)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(parent, target)
	}
	return walk(filepath.Clean(target), links, check)
}

func checkDirectory(path string, fi fs.FileInfo) error {
	if !fi.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	return CheckInfo(path, fi)
}

// checkParent also accepts a writable directory that is sticky: in it, users can replace
// only the entries that they own.
func checkParent(path string, fi fs.FileInfo) error {
	if fi.IsDir() && fi.Mode()&fs.ModeSticky != 0 {
		return checkOwner(path, fi)
	}
	return checkDirectory(path, fi)
}
