package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// directoryLock lets one process at a time migrate an SQLite file, by flock(2) on
// its directory: SQLite itself releases the file between two migrations. The file
// cannot be locked instead: closing it would release SQLite's own locks.
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
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
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
		case <-poll.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("another process is migrating the database in %s: %w", l.dir, ctx.Err()), d.Close())
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
