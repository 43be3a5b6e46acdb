package identity

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// openPrivate opens a regular file that only its owner may read.
func openPrivate(file string) (*os.File, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("other users than its owner may read or write it (mode %04o); `chmod 600 %s` makes it valid, but a user who has read it can impersonate this server: enrol again to replace it", info.Mode().Perm(), file)
	}
	return os.Open(file) //nolint:gosec // below the data directory
}

// StoreKeys stores the keys that verify orders, oldest first, in the identity in dir. They
// replace the ones of the enrolment.
func StoreKeys(dir string, keys []ed25519.PublicKey) error {
	r, err := read(File(dir))
	if err != nil {
		return loadError(File(dir), err)
	}
	r.Keys = nil
	for _, key := range keys {
		r.Keys = append(r.Keys, key)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("store the identity of this server: %w", err)
	}
	return write(dir, identityFile, r)
}

// write replaces a file atomically and durably. The file gets the owner of the directory,
// because root may enrol an agent that runs as another user.
func write(dir, name string, r record) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("store the identity of this server: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(dir, name), append(content, '\n'), func(f *os.File) error { return atomicfile.CopyOwner(f, dir) })
}
