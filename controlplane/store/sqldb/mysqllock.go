package sqldb

import (
	"context"
	"crypto/sha1" //nolint:gosec // names a lock; nothing depends on its strength
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
)

// mysqlLock is a lock of the server that is named after the database.
type mysqlLock struct{}

// SessionLock implements goose's lock.SessionLocker.
func (mysqlLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	name, err := mysqlLockName(ctx, conn)
	if err != nil {
		return err
	}
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 600)", name).Scan(&got); err != nil {
		return fmt.Errorf("lock the schema: %w", err)
	}
	if got.Int64 != 1 {
		return errors.New("lock the schema: another control plane has held the lock for 10 minutes")
	}
	return nil
}

// SessionUnlock implements goose's lock.SessionLocker.
func (mysqlLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	name, err := mysqlLockName(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", name); err != nil {
		return fmt.Errorf("unlock the schema: %w", err)
	}
	return nil
}

// mysqlLockName returns the lock's name. All versions of tasker use the same name, so that
// they exclude each other. The name is read from the server, because a server may
// fold its case. The hash is computed here, because MySQL 9.6 has no SHA1().
func mysqlLockName(ctx context.Context, conn *sql.Conn) (string, error) {
	var database string
	if err := conn.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database); err != nil {
		return "", fmt.Errorf("name the lock of the schema: %w", err)
	}
	sum := sha1.Sum([]byte(database)) //nolint:gosec // see the import
	return "tasker." + hex.EncodeToString(sum[:]), nil
}
