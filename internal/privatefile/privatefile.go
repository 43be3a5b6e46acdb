// Package privatefile refuses files with secrets that other users can read. Every part of
// tasker that reads a key, a token or a password from a file checks it here.
//
// A file is private if other users have no access to it, and its group has none either.
// The group may read a file that belongs to root, as packages install them
// (root:tasker, 0640), and a file below $CREDENTIALS_DIRECTORY, where systemd limits the
// access.
package privatefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrExposed means that other users can read or change a file with a secret.
var ErrExposed = errors.New("other users can read or change this file, which contains a secret")

// Read returns the content of a private file. The error of another file wraps ErrExposed
// and contains the command that corrects the mode.
func Read(path string) ([]byte, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // the operator names the file
}

// Check returns nil if the file is private. It follows symbolic links.
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case !mode.IsRegular(): // A pipe, as of a shell's <(…).
		return nil
	case isPrivate(info, isCredential(path)):
		return nil
	default:
		return fmt.Errorf("%s: %w (mode %04o); run: chmod %s %s", path, ErrExposed, mode.Perm(), mended(info), quote(path))
	}
}

// isPrivate reports whether the mode of a regular file excludes other users.
func isPrivate(info fs.FileInfo, isCredential bool) bool {
	const groupReads, groupAny, othersAny = 0o040, 0o070, 0o007
	mode := info.Mode().Perm()
	owner, ok := info.Sys().(*syscall.Stat_t)
	mayGroupRead := isCredential || ok && owner.Uid == 0
	switch {
	case mode&othersAny != 0:
		return false
	case mayGroupRead:
		return mode&groupAny&^groupReads == 0
	}
	return mode&groupAny == 0
}

// mended returns the mode that makes the file private. The group of a service keeps its
// access.
func mended(info fs.FileInfo) string {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && owner.Uid == 0 && owner.Gid != 0 && info.Mode()&0o040 != 0 {
		return "640"
	}
	return "600"
}

// isCredential reports whether systemd has passed the file as a credential of the unit.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// quote quotes a path for a shell if it needs quotes.
func quote(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+:@%", r)
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
