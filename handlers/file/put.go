package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

const (
	// tempPrefix begins the name of a new file until it is in place. The rest is the
	// file's own name, since some programs go by its ending. What a crash has left
	// under that name goes with the next task at the place.
	tempPrefix = ".tasker-"
	// backupSuffix ends the name of the old file.
	backupSuffix = ".tasker-bak"
)

// stage writes a version under a name that is not in use, complete and lasting.
func (p *place) stage(name string, v *version) (err error) {
	if err := p.discard(name); err != nil {
		return err
	}
	f, err := p.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, p.discard(name))
		}
	}()
	if _, err = f.Write(v.content); err != nil {
		return err
	}
	// The owner before the permissions, which are his.
	if err = f.Chown(v.UID, v.GID); err != nil {
		return fmt.Errorf("give it to user %d and group %d: %w", v.UID, v.GID, err)
	}
	if err = p.label(f); err != nil {
		return err
	}
	if err = f.Chmod(v.Perm); err != nil {
		return err
	}
	return f.Sync()
}

// label gives a new file the extended attributes of the one it will replace:
// SELinux's label, access lists, and what users have put there. Capabilities are
// not for other content.
func (p *place) label(f *os.File) error {
	old, err := p.dir.OpenFile(p.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	from, to := int(old.Fd()), int(f.Fd())
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(from, buf)
	if err != nil {
		return nil // A file system without them.
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name != "security.selinux" && name != "system.posix_acl_access" && !strings.HasPrefix(name, "user.") {
			continue
		}
		value, err := xattr(from, name)
		if err != nil {
			return fmt.Errorf("keep its attribute %s: %w", name, err)
		}
		// Not everybody may set what it may have by itself.
		if has, err := xattr(to, name); err == nil && bytes.Equal(has, value) {
			continue
		}
		if err := unix.Fsetxattr(to, name, value, 0); err != nil {
			return fmt.Errorf("keep its attribute %s: %w", name, err)
		}
	}
	return nil
}

func xattr(fd int, name string) ([]byte, error) {
	value := make([]byte, 64<<10) // the most that Linux has
	n, err := unix.Fgetxattr(fd, name, value)
	return value[:max(n, 0)], err
}

// discard removes a name, which need not be there.
func (p *place) discard(name string) error {
	if err := p.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// temp is the name of the new file until it is in place.
func (p *place) temp() string { return tempPrefix + p.name }

// put replaces the file by a version, or removes it for nil; see swap.
func (p *place) put(v *version) error {
	if p.dir == nil {
		return p.noDirectory()
	}
	if v != nil {
		if err := p.stage(p.temp(), v); err != nil {
			return err
		}
		if err := p.verify(v); err != nil {
			return errors.Join(err, p.discard(p.temp()))
		}
	}
	return p.swap(v)
}

// errNotLasting: what was done is not on the disk yet.
var errNotLasting = errors.New("it is done, but a crash of the server might still lose it")

// swap has the staged version take the place of the file, or removes the file for
// nil. Unless the error is errNotLasting, the file is as it was then.
func (p *place) swap(v *version) error {
	if v == nil {
		if err := p.discard(p.name); err != nil {
			return err
		}
		return p.lasting()
	}
	if err := p.dir.Rename(p.temp(), p.name); err != nil {
		return errors.Join(err, p.discard(p.temp()))
	}
	return p.lasting()
}

// verify reads the staged version back.
func (p *place) verify(v *version) error {
	staged, err := p.read(p.temp())
	if err == nil && !staged.is(&v.attributes) {
		err = errors.New("the new file is not what was written: does the command that validates it change it?")
	}
	return err
}

// lasting returns when it is on the disk which names there are.
func (p *place) lasting() error {
	if p.dir == nil {
		return nil
	}
	if err := atomicfile.SyncDirIn(p.dir, "."); err != nil {
		return fmt.Errorf("%w: %w", errNotLasting, err)
	}
	return nil
}

// backUp keeps a version beside the file, in the place of the one of before.
func (p *place) backUp(v *version) error {
	temp := p.temp() + backupSuffix
	if err := p.stage(temp, v); err != nil {
		return err
	}
	if err := p.dir.Rename(temp, p.name+backupSuffix); err != nil {
		return errors.Join(err, p.discard(temp))
	}
	return nil
}
