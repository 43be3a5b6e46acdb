package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// dropped are the bits of a mode that are not taken over.
const dropped = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o022

// Unpack writes the archive into an empty directory. What it has written when it
// fails is the caller's to remove.
func (a *Archive) Unpack(to *os.Root) error {
	var links []entry
	left := a.Bytes
	err := a.walk(func(e entry, content io.Reader) error {
		if e.kind == symlink {
			links = append(links, e)
			return nil
		}
		n, err := write(to, e, io.LimitReader(content, left+1))
		if left -= n; left < 0 {
			return refuse("%q has more bytes than it says", e.name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := parent(to, e.name); err != nil {
			return err
		}
		if err := to.Symlink(e.target, e.name); err != nil {
			return unpacking(e, err)
		}
	}
	// By way of another link, one may lead out although it does not look so.
	for _, e := range links {
		if _, err := to.Stat(e.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refuse("the link %q to %q leads out of the folder, or in a circle: %v", e.name, e.target, err)
		}
	}
	return nil
}

// write makes a file, a directory or a hard link, and returns how many bytes it wrote.
func write(to *os.Root, e entry, content io.Reader) (int64, error) {
	if e.kind == directory {
		// The owner can always work in it, and remove it.
		if err := to.MkdirAll(e.name, 0o755); err != nil {
			return 0, unpacking(e, err)
		}
		return 0, unpacking(e, to.Chmod(e.name, e.mode.Perm()&^dropped|0o700))
	}
	if err := parent(to, e.name); err != nil {
		return 0, err
	}
	if e.kind == hardlink {
		return 0, unpacking(e, to.Link(e.target, e.name))
	}
	f, err := to.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, unpacking(e, err)
	}
	n, err := io.Copy(f, content)
	err = errors.Join(err, f.Chmod(e.mode.Perm()&^dropped|0o400), f.Close())
	if err == nil && !e.time.IsZero() {
		err = to.Chtimes(e.name, e.time, e.time)
	}
	return n, unpacking(e, err)
}

func parent(to *os.Root, name string) error {
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return nil
}

func unpacking(e entry, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unpack %s: %w", e.name, err)
}
