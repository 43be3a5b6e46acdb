package atomicfile

import (
	"os"
	"syscall"
)

// CopyOwner gives a file that root writes the owner of another file or directory: root may
// run a command for a service that runs as another user.
func CopyOwner(f *os.File, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
