package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// checkWritable rejects a change of the file that the server would not permit. It changes
// nothing, so that a dry run fails for the same reason as the task.
func (t *target) checkWritable() error {
	if t.dir == nil {
		return nil
	}
	dir, err := t.dir.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	err = unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	switch {
	case errors.Is(err, syscall.EROFS):
		return handlers.Reject("the file system of %s is read-only", filepath.Dir(t.path))
	case err != nil:
		return handlers.Reject("the agent may not write the directory %s: %v", filepath.Dir(t.path), err)
	}
	var st unix.Statx_t
	err = unix.Statx(fd, t.name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &st)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("examine %s: %w", t.path, err)
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return t.mountPoint()
	case st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0:
		return handlers.Reject("%s is immutable or append-only: chattr -ia %[1]s", t.path)
	}
	return nil
}

// mountPoint is the rejection of a file that is a mount point. Such a file cannot be
// replaced, and writing to it in place could leave it half written.
func (t *target) mountPoint() error {
	return handlers.Reject("%s is a mount point (a bind mount, as containers have for /etc/hosts): change the file that is mounted there, or unmount it", t.path)
}

// linkNote describes what a change does to the other hard links of a file.
func (v *version) linkNote() string {
	switch {
	case v == nil || v.links <= 1:
		return ""
	case v.links == 2:
		return "the file had another hard link, which keeps the old file"
	}
	return fmt.Sprintf("the file had %d other hard links, which keep the old file", v.links-1)
}
