package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// dialect is what SQLite and MySQL do not have in common.
type dialect struct {
	// name is also that of the directory of migrations.
	name  string
	goose goose.Dialect
	// forUpdate and skipLocked end a SELECT that locks what it reads.
	forUpdate, skipLocked string
	// use follows a table's name and names the index to take, straightJoin joins
	// in the order as written: for statements where an optimiser that knows little
	// of the tables takes a bad one.
	use          func(index string) string
	straightJoin string
	// onConflict ends an INSERT so that a row whose key exists takes the columns
	// from the one given; with no columns the stored row stays as it is.
	onConflict func(key, columns []string) string
	// now reads the database's clock, in microseconds since 1970.
	now func(ctx context.Context, c *conn) (micros, error)
	// fault says what an error of the driver means.
	fault func(error) fault
	// snapshot are the options of a transaction whose reads are of one moment.
	snapshot sql.TxOptions
	// migrating is held while the tables are changed.
	migrating lock.SessionLocker
}

// fault is what an error of a database means for whoever gets it.
type fault int

const (
	// faultOther is a mistake in a statement or in its values.
	faultOther fault = iota
	// faultDuplicate: a row with this key exists.
	faultDuplicate
	// faultBusy: the transaction lost against another and was rolled back; it
	// can be tried again at once.
	faultBusy
	// faultUnavailable: the database cannot be reached, or cannot write now.
	faultUnavailable
)

// insert builds an INSERT of n rows, up to where onConflict may follow.
func insert(table string, columns []string, n int) string {
	row := "(" + marks(len(columns)) + ")"
	var b strings.Builder
	b.Grow(64 + len(table) + 16*len(columns) + n*(len(row)+1))
	b.WriteString("INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(row)
	}
	return b.String()
}

// marks is a list of n placeholders.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// words splits a list of columns.
func words(list string) []string { return strings.Fields(strings.ReplaceAll(list, ",", " ")) }
