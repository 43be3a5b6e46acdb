package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

const (
	// maxVariables bounds the placeholders of one statement: SQLite accepts 32,766.
	maxVariables = 30_000
	// MaxStatement bounds the bytes of one statement: MariaDB accepts packets up to 16 MiB
	// by default, MySQL 8 up to 64 MiB.
	MaxStatement = 4 << 20
	// MaxListed bounds the values of one IN (…).
	MaxListed = 1000
)

// Conn runs statements, in a transaction or outside of one.
type Conn struct {
	*Syntax
	dialect *dialect
	q       querier
	trace   func(query string, args []any)
}

// querier is a sql.DB or a sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Query calls scan for each row.
func (c *Conn) Query(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) (err error) {
	if c.trace != nil {
		c.trace(query, args)
	}
	rows, err := c.q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// QueryRow reads the first row, or returns ErrNotFound.
func (c *Conn) QueryRow(ctx context.Context, query string, args []any, dest ...any) error {
	found := false
	err := c.Query(ctx, query, args, func(r *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// QueryStrings reads a query of one text column.
func (c *Conn) QueryStrings(ctx context.Context, query string, args ...any) ([]string, error) {
	return List(ctx, c, query, args, func(r *sql.Rows, v *string) error { return r.Scan(v) })
}

// List reads the rows of a query; scan reads one row into a value.
func List[T any](ctx context.Context, c *Conn, query string, args []any, scan func(*sql.Rows, *T) error) ([]T, error) {
	var list []T
	err := c.Query(ctx, query, args, func(r *sql.Rows) error {
		var v T
		err := scan(r, &v)
		list = append(list, v)
		return err
	})
	return list, err
}

// Exec runs a statement.
func (c *Conn) Exec(ctx context.Context, query string, args ...any) error {
	if c.trace != nil {
		c.trace(query, args)
	}
	_, err := c.q.ExecContext(ctx, query, args...)
	return err
}

// Insert inserts rows.
func (c *Conn) Insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	return c.insert(ctx, table, columns, "", rows)
}

// InsertMissing inserts the rows whose key, the first columns, does not exist.
func (c *Conn) InsertMissing(ctx context.Context, table string, columns []string, key int, rows [][]any) error {
	return c.insert(ctx, table, columns, c.dialect.onConflict(columns[:key], nil), rows)
}

// Upsert inserts rows and overwrites those whose key, the first columns, exists.
func (c *Conn) Upsert(ctx context.Context, table string, columns []string, key int, rows [][]any) error {
	return c.insert(ctx, table, columns, c.dialect.onConflict(columns[:key], columns[key:]), rows)
}

// insert inserts rows in as many statements as the limits demand.
func (c *Conn) insert(ctx context.Context, table string, columns []string, onConflict string, rows [][]any) error {
	maxRows := maxVariables / len(columns)
	for len(rows) > 0 {
		n, bytes := 0, 0
		var args []any
		for n < len(rows) && n < maxRows {
			size := rowSize(rows[n])
			if n > 0 && bytes+size > MaxStatement {
				break
			}
			args = append(args, rows[n]...)
			bytes += size
			n++
		}
		if err := c.Exec(ctx, insertStatement(table, columns, n)+onConflict, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// rowSize is the size of a row's long values in bytes.
func rowSize(row []any) int {
	size := 0
	for _, v := range row {
		switch v := v.(type) {
		case []byte:
			size += len(v)
		case string:
			size += len(v)
		}
	}
	return size
}

// insertStatement is an INSERT of n rows, up to where ON CONFLICT may follow.
func insertStatement(table string, columns []string, n int) string {
	row := "(" + Placeholders(len(columns)) + ")"
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

// Placeholders returns n placeholders: ?,?,?.
func Placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// Args returns the list as arguments of a statement.
func Args[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
