package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// directoryLock keeps the processes that migrate an SQLite file apart, by flock(2) on
// its directory: SQLite itself lets go of the file between two migrations. (A lock on
// the file is none: closing it would end SQLite's own locks of this process.)
type directoryLock struct {
	dir  string
	held *os.File
}

// SessionLock implements goose's lock.SessionLocker.
func (l *directoryLock) SessionLock(ctx context.Context, _ *sql.Conn) error {
	d, err := os.Open(l.dir)
	if err != nil {
		return fmt.Errorf("lock the directory of the database: %w", err)
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a file descriptor is an int
		switch {
		case err == nil:
			l.held = d
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return errors.Join(fmt.Errorf("lock %s: %w", l.dir, err), d.Close())
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("another process migrates the database in %s: %w", l.dir, ctx.Err()), d.Close())
		}
	}
}

// SessionUnlock implements goose's lock.SessionLocker.
func (l *directoryLock) SessionUnlock(context.Context, *sql.Conn) error {
	if err := l.held.Close(); err != nil {
		return fmt.Errorf("unlock %s: %w", l.dir, err)
	}
	return nil
}
