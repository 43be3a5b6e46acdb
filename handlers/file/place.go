package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// trees are the directories in which files may be written.
type trees []string

// place is where a file is or will be.
type place struct {
	path, name string
	// dir is the file's directory; nil if there is none.
	dir *os.Root
	// id tells the directory from others, whatever its path.
	id string
}

// open finds the place of a file, or rejects it.
func (t trees) open(path string) (*place, error) {
	if !plain(path) {
		return nil, handlers.Reject("payload.path: %q is not the plain absolute path of a file, without '.', '..' and double slashes", path)
	}
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	if len(tempPrefix+name+backupSuffix) > unix.NAME_MAX {
		return nil, handlers.Reject("payload.path: %q is too long for a name", name)
	}
	if strings.HasPrefix(name, tempPrefix) {
		return nil, handlers.Reject("payload.path: names that begin with %s are for new files that are not in place yet", tempPrefix)
	}
	tree := ""
	for _, at := range t {
		if (dir == at || strings.HasPrefix(dir, at+"/")) && len(at) > len(tree) {
			tree = at
		}
	}
	if tree == "" {
		return nil, handlers.Reject("the agent does not allow to write %s: add its directory, %q, or one above it to handlers.file.allow in its configuration", path, dir)
	}
	p := &place{path: path, name: name, id: dir}
	top, err := os.OpenRoot(tree)
	if err == nil {
		defer func() { _ = top.Close() }()
		err = p.enter(top, strings.TrimPrefix(strings.TrimPrefix(dir, tree), "/"))
	}
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return p, nil
	case errors.Is(err, syscall.ENOTDIR):
		return nil, handlers.Reject("%s is not a directory", dir)
	}
	return nil, handlers.Reject("the directory %s: %v (links that lead out of %s are not followed)", dir, err, tree)
}

// enter opens the directory below top.
func (p *place) enter(top *os.Root, below string) error {
	if below == "" {
		below = "."
	}
	// A pipe would not let itself be opened.
	info, err := top.Stat(below)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok {
		return syscall.ENOTDIR
	}
	p.id = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	p.dir, err = top.OpenRoot(below)
	return err
}

func (p *place) close() {
	if p.dir != nil {
		_ = p.dir.Close() // Nothing was written to it.
	}
}

// key is the same for all ways to the same file.
func (p *place) key() string { return p.id + "/" + p.name }

func (p *place) noDirectory() error {
	return handlers.Reject("the directory %s does not exist: make it first", filepath.Dir(p.path))
}

// group is that of new files: the directory's, if it hands that on, or the agent's.
func (p *place) group() (int, error) {
	info, err := p.dir.Stat(".")
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeSetgid != 0 {
		return int(st.Gid), nil
	}
	return os.Getegid(), nil
}
