package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// allowedDirs are the directories in which the agent may write files.
type allowedDirs []string

// target is the file of a task, which may not exist yet, in an open directory.
type target struct {
	path, name string
	// dir is the file's directory; nil if it does not exist.
	dir *os.Root
	// dirID identifies the directory, whatever its path.
	dirID string
}

// open opens the directory of a file. It rejects a file that the agent may not write.
func (dirs allowedDirs) open(path string) (*target, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	allowed := ""
	for _, d := range dirs {
		if (dir == d || strings.HasPrefix(dir, d+"/")) && len(d) > len(allowed) {
			allowed = d
		}
	}
	if allowed == "" {
		return nil, handlers.Reject("the agent does not allow writing %s: add its directory, %q, or one above it to handlers.file.allow in its configuration", path, dir)
	}
	t := &target{path: path, name: name, dirID: dir}
	place, err := trust.CheckPlace(allowed)
	if err != nil {
		return nil, handlers.Reject("the allowed directory %s: %v, or allow a directory above it that only root can replace", allowed, err)
	}
	top, err := os.OpenRoot(place)
	if err == nil {
		defer func() { _ = top.Close() }()
		err = t.openDir(top, strings.TrimPrefix(strings.TrimPrefix(dir, allowed), "/"))
	}
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return t, nil
	case errors.Is(err, syscall.ENOTDIR):
		return nil, handlers.Reject("%s is not a directory", dir)
	}
	return nil, handlers.Reject("the directory %s: %v (links that lead out of %s are not followed)", dir, err, allowed)
}

func (t *target) close() {
	if t.dir != nil {
		_ = t.dir.Close() // Nothing was written to it.
	}
}

// key identifies the file, whatever its path.
func (t *target) key() string { return t.dirID + "/" + t.name }

// missingDirectory is the rejection of a file whose directory does not exist.
func (t *target) missingDirectory() error {
	return handlers.Reject("the directory %s does not exist: make it first", filepath.Dir(t.path))
}

// newFileGroup returns the group of new files: that of the directory if its setgid bit is
// set, else that of the agent.
func (t *target) newFileGroup() (int, error) {
	info, err := t.dir.Stat(".")
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeSetgid != 0 {
		return int(st.Gid), nil
	}
	return os.Getegid(), nil
}

// checkPath rejects a path that no agent would write.
func checkPath(path string) error {
	if !isPlainPath(path) {
		return handlers.Reject("payload.path: %q is not the plain absolute path of a file, without '.', '..' or double slashes", path)
	}
	name := filepath.Base(path)
	if len(tempPrefix+name+backupSuffix) > unix.NAME_MAX {
		return handlers.Reject("payload.path: %q is too long for a file name", name)
	}
	if strings.HasPrefix(name, tempPrefix) {
		return handlers.Reject("payload.path: names that begin with %s are reserved for temporary files", tempPrefix)
	}
	return nil
}
