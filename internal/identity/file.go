package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// openPrivate opens a regular file that nobody but its owner may read.
func openPrivate(file string) (*os.File, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others than its owner may read or write it (mode %04o); after `chmod 600 %s` it is taken, but who has read it can speak for this server: better enrol again", info.Mode().Perm(), file)
	}
	return os.Open(file) //nolint:gosec // below the data directory
}

// write writes a file whole or not at all, and durably. It belongs to whom the
// directory does: a person may enrol as root for an agent with a user of its own.
func write(dir, name string, r record) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep who this server is: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(dir, name), append(content, '\n'), func(f *os.File) error { return give(f, dir) })
}

func give(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
