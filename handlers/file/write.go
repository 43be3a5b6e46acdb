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
	// tempPrefix begins the temporary name of a new file. The rest of it is the file's own
	// name, since some programs depend on its suffix. The next task for the file removes
	// what a crash has left under that name.
	tempPrefix = ".tasker-"
	// backupSuffix ends the name of the backup.
	backupSuffix = ".tasker-bak"
)

// stage writes a version under another name. It is complete and on the disk when stage
// returns.
func (t *target) stage(name string, v *version) (err error) {
	if err := t.remove(name); err != nil {
		return err
	}
	f, err := t.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, t.remove(name))
		}
	}()
	if _, err = f.Write(v.content); err != nil {
		return err
	}
	// The owner before the permissions, which are meant for the owner.
	if err = f.Chown(v.UID, v.GID); err != nil {
		return fmt.Errorf("change its owner to user %d and group %d: %w", v.UID, v.GID, err)
	}
	if err = t.copyAttributes(f); err != nil {
		return err
	}
	if err = f.Chmod(v.Perm); err != nil {
		return err
	}
	return f.Sync()
}

// copyAttributes copies the extended attributes of the file to the one that replaces it:
// the SELinux label, the access control list, and the users' own attributes. It does not
// copy capabilities, which were granted to other content.
func (t *target) copyAttributes(f *os.File) error {
	old, err := t.dir.OpenFile(t.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
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
		return nil // The file system has no extended attributes.
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name != "security.selinux" && name != "system.posix_acl_access" && !strings.HasPrefix(name, "user.") {
			continue
		}
		value, err := xattr(from, name)
		if err != nil {
			return fmt.Errorf("copy its attribute %s: %w", name, err)
		}
		// The new file may have the attribute already; setting it again may not be permitted.
		if existing, err := xattr(to, name); err == nil && bytes.Equal(existing, value) {
			continue
		}
		if err := unix.Fsetxattr(to, name, value, 0); err != nil {
			return fmt.Errorf("copy its attribute %s: %w", name, err)
		}
	}
	return nil
}

func xattr(fd int, name string) ([]byte, error) {
	value := make([]byte, 64<<10) // the maximum on Linux
	n, err := unix.Fgetxattr(fd, name, value)
	return value[:max(n, 0)], err
}

// remove removes a file of the directory if it exists.
func (t *target) remove(name string) error {
	if err := t.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tempName is the name of the new file until it replaces the old one.
func (t *target) tempName() string { return tempPrefix + t.name }

// replace replaces the file by a version, or removes it if v is nil.
func (t *target) replace(v *version) error {
	if t.dir == nil {
		return t.missingDirectory()
	}
	if v != nil {
		if err := t.stage(t.tempName(), v); err != nil {
			return err
		}
		if err := t.verifyStaged(v); err != nil {
			return errors.Join(err, t.remove(t.tempName()))
		}
	}
	return t.commit(v)
}

// errNotSynced is the error of a change that is not on the disk yet.
var errNotSynced = errors.New("the file was changed, but a crash of the server could still undo the change")

// commit renames the staged version to the file, or removes the file if v is nil. Unless
// the error is errNotSynced, an error means that the file has not changed.
func (t *target) commit(v *version) error {
	if v == nil {
		if err := t.remove(t.name); err != nil {
			return t.explainBusy(err)
		}
		return t.sync()
	}
	if err := t.dir.Rename(t.tempName(), t.name); err != nil {
		return errors.Join(t.explainBusy(err), t.remove(t.tempName()))
	}
	return t.sync()
}

// explainBusy explains EBUSY, the error of a mount point that checkWritable has not found:
// Linux before 5.8 does not report them.
func (t *target) explainBusy(err error) error {
	if errors.Is(err, unix.EBUSY) {
		return t.mountPoint()
	}
	return err
}

// verifyStaged reads the staged version back and compares it.
func (t *target) verifyStaged(v *version) error {
	staged, err := t.read(t.tempName())
	if err == nil && !staged.equals(&v.attributes) {
		err = errors.New("the new file is not as it was written: does the validate command change it?")
	}
	return err
}

// sync flushes the entries of the directory to the disk.
func (t *target) sync() error {
	if t.dir == nil {
		return nil
	}
	if err := atomicfile.SyncDirIn(t.dir, "."); err != nil {
		return fmt.Errorf("%w: %w", errNotSynced, err)
	}
	return nil
}

// backUp writes a version to the backup file, and replaces an earlier backup.
func (t *target) backUp(v *version) error {
	temp := t.tempName() + backupSuffix
	if err := t.stage(temp, v); err != nil {
		return err
	}
	if err := t.dir.Rename(temp, t.name+backupSuffix); err != nil {
		return errors.Join(err, t.remove(temp))
	}
	return nil
}
