package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteBusyTimeout is how long a writer waits for a writer of another process.
const sqliteBusyTimeout = 10 * time.Second

func sqliteDialect(file string) *dialect {
	return &dialect{
		name:  "sqlite",
		goose: goose.DialectSQLite3,
		Syntax: Syntax{
			UseIndex:     func(index string) string { return " INDEXED BY " + index },
			StraightJoin: " CROSS JOIN ", // keeps the order as written
		},
		onConflict: func(key, columns []string) string {
			if len(columns) == 0 {
				return " ON CONFLICT DO NOTHING"
			}
			sets := make([]string, len(columns))
			for i, c := range columns {
				sets[i] = c + "=excluded." + c
			}
			return " ON CONFLICT (" + strings.Join(key, ",") + ") DO UPDATE SET " + strings.Join(sets, ",")
		},
		// The database is in this process, and so is its clock.
		now:           func(context.Context, *Conn) (Micros, error) { return MicrosOf(time.Now()), nil },
		classify:      classifySQLite,
		migrationLock: &directoryLock{dir: filepath.Dir(file)},
	}
}

// connectSQLite opens the one connection that writes and the pool that reads.
func connectSQLite(ctx context.Context, file string) (*DB, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db := &DB{dialect: sqliteDialect(file)}
	if db.writer, db.reader, err = openSQLite(ctx, file); err != nil {
		return nil, db.Wrap("open the database", err)
	}
	db.migrator = db.writer
	return db, nil
}

func openSQLite(ctx context.Context, file string) (writer, reader *sql.DB, err error) {
	if err := createPrivate(file); err != nil {
		return nil, nil, err
	}
	// Every commit is synced to the disk: an accepted task survives a power cut.
	pragmas := []string{
		"journal_mode(wal)", "synchronous(full)", "foreign_keys(1)",
		fmt.Sprintf("busy_timeout(%d)", sqliteBusyTimeout.Milliseconds()), "journal_size_limit(67108864)",
	}
	if writer, err = sqlitePool(file, "immediate", pragmas); err != nil {
		return nil, nil, err
	}
	writer.SetMaxOpenConns(1)
	// The file becomes a database before the first reader opens it.
	if err = writer.PingContext(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", file, err), writer.Close())
	}
	if reader, err = sqlitePool(file, "deferred", append(pragmas, "query_only(1)")); err != nil {
		return nil, nil, errors.Join(err, writer.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return writer, reader, nil
}

// sqlitePool makes a pool of connections whose transactions begin with the lock.
func sqlitePool(file, lock string, pragmas []string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_pragma": pragmas, "_txlock": {lock}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return db, nil
}

// createPrivate creates the file, if it is missing, so that only its owner can
// read it. SQLite gives the files beside it the same mode.
func createPrivate(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("create the directory of the database: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

func classifySQLite(err error) errorClass {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return classOther
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return classDuplicate
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return classBusy
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return classUnavailable
	}
	return classOther
}
