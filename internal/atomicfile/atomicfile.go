// Package atomicfile writes small files that a crash cannot leave half written. Every
// part of tasker that keeps such a file (tokens, keys, identities, records) uses it.
//
// The content goes to a temporary file beside the final one, is flushed to the disk, and
// then gets the final name. When a function returns nil, the directory entry is on the
// disk too. A crash can leave the temporary file, whose name begins with a dot. A file
// is readable by its owner only (mode 0600).
package atomicfile

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Replace writes the file at path, or replaces the existing one. Each prepare function
// may change the owner or the mode of the file before it gets its name.
func Replace(path string, content []byte, prepare ...func(*os.File) error) error {
	return inDirectory(path, func(dir *os.Root, name string) error {
		return ReplaceIn(dir, name, content, prepare...)
	})
}

// ReplaceIn is Replace for a name below root.
func ReplaceIn(root *os.Root, name string, content []byte, prepare ...func(*os.File) error) error {
	temporary, err := stage(root, name, content, prepare)
	if err != nil {
		return err
	}
	if err := root.Rename(temporary, name); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return SyncDirIn(root, filepath.Dir(name))
}

// Create writes the file at path. It returns an error that wraps fs.ErrExist if the file
// exists, even if another process creates it at the same time. The prepare functions are
// as in Replace.
func Create(path string, content []byte, prepare ...func(*os.File) error) error {
	return inDirectory(path, func(dir *os.Root, name string) error {
		temporary, err := stage(dir, name, content, prepare)
		if err != nil {
			return err
		}
		if err := errors.Join(dir.Link(temporary, name), dir.Remove(temporary)); err != nil {
			return err
		}
		return SyncDirIn(dir, ".")
	})
}

func inDirectory(path string, write func(dir *os.Root, name string) error) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(write(dir, filepath.Base(path)), dir.Close())
}

// stage writes the content to a temporary file beside name and returns its name.
func stage(root *os.Root, name string, content []byte, prepare []func(*os.File) error) (string, error) {
	temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"-"+strings.ToLower(rand.Text()[:12]))
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	for _, change := range prepare {
		if err == nil {
			err = change(f)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, root.Remove(temporary))
	}
	return temporary, nil
}

// SyncDir flushes the entries of a directory to the disk, so that names which were
// created, renamed or removed in it survive a crash.
func SyncDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(SyncDirIn(root, "."), root.Close())
}

// SyncDirIn is SyncDir for a directory below root.
func SyncDirIn(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
