package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// droppedBits are the bits of a mode that Unpack clears.
const droppedBits = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o022

// Unpack writes the archive into an empty directory. When it fails, the caller must
// remove what it has written.
func (a *Archive) Unpack(to *os.Root) error {
	var links []entry
	remaining := a.Bytes
	err := a.walk(func(e entry, content io.Reader) error {
		if e.kind == symlink {
			links = append(links, e)
			return nil
		}
		n, err := write(to, e, io.LimitReader(content, remaining+1))
		if remaining -= n; remaining < 0 {
			return refuse("%q has more bytes than the archive declares", e.name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := createParent(to, e.name); err != nil {
			return err
		}
		if err := to.Symlink(e.target, e.name); err != nil {
			return unpackError(e, err)
		}
	}
	// Through another link, a link can lead out although its target alone does not.
	for _, e := range links {
		if _, err := to.Stat(e.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refuse("the link %q to %q leads out of the directory, or in a circle: %v", e.name, e.target, err)
		}
	}
	return nil
}

// write creates a file, a directory or a hard link. It returns the number of bytes
// written.
func write(to *os.Root, e entry, content io.Reader) (int64, error) {
	if e.kind == directory {
		// The owner must be able to write into the directory, and to remove it.
		if err := to.MkdirAll(e.name, 0o755); err != nil {
			return 0, unpackError(e, err)
		}
		return 0, unpackError(e, to.Chmod(e.name, e.mode.Perm()&^droppedBits|0o700))
	}
	if err := createParent(to, e.name); err != nil {
		return 0, err
	}
	if e.kind == hardlink {
		return 0, unpackError(e, to.Link(e.target, e.name))
	}
	f, err := to.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, unpackError(e, err)
	}
	n, err := io.Copy(f, content)
	err = errors.Join(err, f.Chmod(e.mode.Perm()&^droppedBits|0o400), f.Close())
	if err == nil && !e.time.IsZero() {
		err = to.Chtimes(e.name, e.time, e.time)
	}
	return n, unpackError(e, err)
}

func createParent(to *os.Root, name string) error {
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return nil
}

func unpackError(e entry, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unpack %s: %w", e.name, err)
}
