package store

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

// sqliteBusy is how long a writer waits for a writer of another process.
const sqliteBusy = 10 * time.Second

func sqliteDialect(file string) *dialect {
	return &dialect{
		name:  "sqlite",
		goose: goose.DialectSQLite3,
		use:   func(index string) string { return " INDEXED BY " + index },
		// SQLite's CROSS JOIN keeps the order.
		straightJoin: " CROSS JOIN ",
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
		now:       func(context.Context, *conn) (micros, error) { return microsOf(time.Now()), nil },
		fault:     sqliteFault,
		snapshot:  sql.TxOptions{},
		migrating: &directoryLock{dir: filepath.Dir(file)},
	}
}

// openSQLite opens the one connection that writes and the pool that reads.
func openSQLite(ctx context.Context, file string) (write, read *sql.DB, err error) {
	if err := createPrivate(file); err != nil {
		return nil, nil, err
	}
	// Every commit is synced to the disk: an accepted task survives a power cut.
	common := []string{
		"journal_mode(wal)", "synchronous(full)", "foreign_keys(1)",
		fmt.Sprintf("busy_timeout(%d)", sqliteBusy.Milliseconds()), "journal_size_limit(67108864)",
	}
	open := func(lock string, pragmas ...string) (*sql.DB, error) {
		u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_pragma": pragmas, "_txlock": {lock}}.Encode()}
		db, err := sql.Open("sqlite", u.String())
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", file, err)
		}
		return db, nil
	}
	if write, err = open("immediate", common...); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	// The file becomes a database before the first reader comes.
	if err = write.PingContext(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", file, err), write.Close())
	}
	if read, err = open("deferred", append(common, "query_only(1)")...); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return write, read, nil
}

// createPrivate makes the file, if it is missing, so that its owner alone can
// read it; SQLite gives the files beside it the same mode.
func createPrivate(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("make the directory of the database: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return nil
}

func sqliteFault(err error) fault {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return faultOther
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return faultDuplicate
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return faultBusy
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return faultUnavailable
	}
	return faultOther
}
