package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// maxLinks is the number of links that are followed on the way to a directory, as in Linux.
const maxLinks = 40

// errOutside is the error of a link that leads out of the allowed directory.
var errOutside = errors.New("a link on the way leads out of the allowed directory")

// openDir opens the directory at a path below top. It follows a link only if other users
// can change neither the link nor its directory: otherwise another user could choose where
// the agent writes.
func (t *target) openDir(top *os.Root, below string) error {
	for range maxLinks {
		next, err := t.descend(top, below)
		if err != nil || next == "" {
			return err
		}
		below = next
	}
	return syscall.ELOOP
}

// descend opens a directory below top, element by element. If an element is a link, descend
// opens nothing and returns the path below top with the link replaced by its target.
func (t *target) descend(top *os.Root, below string) (next string, err error) {
	dir, err := top.OpenRoot(".")
	if err != nil {
		return "", err
	}
	// The caller gets the last directory.
	defer func() {
		if dir != nil {
			_ = dir.Close()
		}
	}()
	var elements []string
	if below != "" && below != "." {
		elements = strings.Split(below, "/")
	}
	for i, name := range elements {
		info, err := dir.Lstat(name)
		switch {
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := readTrustedLink(dir, name, info)
			if err != nil {
				return "", err
			}
			return redirect(elements, i, to)
		case !info.IsDir():
			return "", syscall.ENOTDIR
		}
		child, err := openSame(dir, name, info)
		if err != nil {
			return "", err
		}
		_ = dir.Close()
		dir = child
	}
	if t.dirID, err = identify(dir); err != nil {
		return "", err
	}
	t.dir, dir = dir, nil
	return "", nil
}

// redirect returns the path in which the element i is replaced by the target of a link.
func redirect(elements []string, i int, to string) (string, error) {
	next := filepath.Join(filepath.Join(elements[:i]...), to, filepath.Join(elements[i+1:]...))
	if filepath.IsAbs(to) || !filepath.IsLocal(next) {
		return "", errOutside
	}
	return next, nil
}

// identify returns a name of a directory that does not depend on its path.
func identify(dir *os.Root) (string, error) {
	info, err := dir.Stat(".")
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", syscall.ENOTDIR
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// readTrustedLink returns the target of a link that no other user can change.
func readTrustedLink(dir *os.Root, name string, link fs.FileInfo) (string, error) {
	parent, err := dir.Stat(".")
	if err == nil {
		err = trust.CheckEntry(filepath.Join(dir.Name(), name), parent, link)
	}
	if err != nil {
		return "", fmt.Errorf("the link %s is not followed: %w", name, err)
	}
	return dir.Readlink(name)
}

// openSame opens a directory that Lstat has described. It returns an error if another
// program has replaced the directory since, for example by a link.
func openSame(dir *os.Root, name string, info fs.FileInfo) (*os.Root, error) {
	child, err := dir.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := child.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("another program is replacing %s", name)
	}
	if err != nil {
		return nil, errors.Join(err, child.Close())
	}
	return child, nil
}
