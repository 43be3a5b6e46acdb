// Package sqldb opens a SQLite or MySQL database, migrates its tables and runs
// statements and transactions in it. It is independent of the tables: the queries are in
// package store.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Options configure Open.
type Options struct {
	// URI is "sqlite:FILE" (relative to DataDir) or
	// "mysql://user:password@host:port/database".
	URI     string
	DataDir string
	// Migrations has one directory per dialect: sqlite and mysql.
	Migrations fs.FS
	// Clock replaces the database's clock, for tests.
	Clock func() time.Time
}

// DB is an open database.
type DB struct {
	dialect *dialect
	writer  *sql.DB
	reader  *sql.DB // the same as writer on MySQL
	// migrator changes the tables, which may take minutes; the same as writer on
	// SQLite.
	migrator   *sql.DB
	migrations fs.FS
	clock      func() time.Time
	// failedWrite is the error of the last transaction that wrote, if the database could not
	// write; nil after one that succeeded.
	failedWrite atomic.Pointer[error]
	// trace, if set, is called with every statement.
	trace func(query string, args []any)
}

// Open opens the database and checks that it responds; it does not migrate.
func Open(ctx context.Context, o Options) (*DB, error) {
	db, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	db.migrations, db.clock = o.Migrations, o.Clock
	if err := db.reader.PingContext(ctx); err != nil {
		if isNoSuchDatabase(err) {
			err = fmt.Errorf("%w; create it with tasker-controlplane initialize", err)
		}
		return nil, errors.Join(db.Wrap("open the database", err), db.Close())
	}
	return db, nil
}

func connect(ctx context.Context, o Options) (*DB, error) {
	switch scheme, file, _ := strings.Cut(o.URI, ":"); {
	case scheme == "sqlite" && file != "":
		if !filepath.IsAbs(file) {
			file = filepath.Join(o.DataDir, file)
		}
		return connectSQLite(ctx, file)
	case scheme == "mysql":
		return connectMySQL(o.URI)
	}
	return nil, errors.New("database URI: write sqlite:FILE or mysql://user:password@host:port/database")
}

// Create creates the MySQL database that uri names if it is missing. For SQLite
// there is nothing to do.
func Create(ctx context.Context, uri string) error {
	if !strings.HasPrefix(uri, "mysql:") {
		return nil
	}
	return mysqlDialect().wrap("create the database", createMySQL(ctx, uri))
}

// Close closes the database.
func (db *DB) Close() error {
	var err error
	if db.reader != db.writer {
		err = db.reader.Close()
	}
	if db.migrator != db.writer {
		err = errors.Join(err, db.migrator.Close())
	}
	if err = errors.Join(err, db.writer.Close()); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Dialect is sqlite or mysql.
func (db *DB) Dialect() string { return db.dialect.name }

// Trace calls fn with every statement, for tests; nil ends it.
func (db *DB) Trace(fn func(query string, args []any)) { db.trace = fn }

// Pools returns the connections that write and read, for statements outside of Update and
// Reader, such as a PRAGMA.
func (db *DB) Pools() (writer, reader *sql.DB) { return db.writer, db.reader }

// IsDuplicate reports whether err means that a row with the same key exists.
func (db *DB) IsDuplicate(err error) bool { return db.dialect.classify(err) == classDuplicate }

// Wrap adds the failed action to err, and ErrUnavailable if the database cannot
// be used now. It returns nil for nil.
func (db *DB) Wrap(action string, err error) error { return db.dialect.wrap(action, err) }
