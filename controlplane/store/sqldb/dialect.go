package sqldb

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Syntax is the part of a dialect that statements are built with.
type Syntax struct {
	// ForUpdate and SkipLocked end a SELECT that locks the rows it reads. SkipLocked
	// leaves out the rows that another transaction has locked.
	ForUpdate, SkipLocked string
	// UseIndex follows a table's name and names the index to use; StraightJoin joins
	// in the order as written. They are for statements whose plan an optimiser without
	// table statistics gets wrong.
	UseIndex     func(index string) string
	StraightJoin string
}

// dialect holds what differs between SQLite and MySQL.
type dialect struct {
	// name is also the name of the directory of migrations.
	name  string
	goose goose.Dialect
	Syntax
	// onConflict ends an INSERT. If a row with the key exists, its columns are
	// overwritten; without columns it stays as it is.
	onConflict func(key, columns []string) string
	// now reads the database's clock.
	now      func(ctx context.Context, c *Conn) (Micros, error)
	classify func(error) errorClass
	// snapshot are the options of a transaction that reads one consistent state.
	snapshot sql.TxOptions
	// migrationLock is held while the tables are changed.
	migrationLock lock.SessionLocker
}
