package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Columns are columns of one table, in the order in which statements name them.
type Columns[R any] struct {
	columns []Column[R]
	names   []string
	list    string
}

// NewColumns returns the columns in this order.
func NewColumns[R any](columns ...Column[R]) Columns[R] {
	c := Columns[R]{columns: columns}
	for _, column := range columns {
		c.names = append(c.names, column.name)
	}
	c.list = strings.Join(c.names, ", ")
	return c
}

// With returns these columns and more.
func (c Columns[R]) With(more ...Column[R]) Columns[R] {
	return NewColumns(slices.Concat(c.columns, more)...)
}

// Mutable returns the columns that change after a row was inserted.
func (c Columns[R]) Mutable() Columns[R] {
	return c.without(func(column Column[R]) bool { return !column.mutable })
}

// Required returns the columns that a new row needs.
func (c Columns[R]) Required() Columns[R] {
	return c.without(func(column Column[R]) bool { return column.optional })
}

func (c Columns[R]) without(drop func(Column[R]) bool) Columns[R] {
	return NewColumns(slices.DeleteFunc(slices.Clone(c.columns), drop)...)
}

// Names returns the names of the columns.
func (c Columns[R]) Names() []string { return c.names }

// Select reads the rows of SELECT with these columns and the clauses that follow.
func (c Columns[R]) Select(ctx context.Context, conn *Conn, clauses string, args ...any) ([]*R, error) {
	destOf := make([]func(*R) any, len(c.columns))
	for i, column := range c.columns {
		destOf[i] = column.newDest()
	}
	dests := make([]any, len(destOf))
	return List(ctx, conn, "SELECT "+c.list+" "+clauses, args, func(rows *sql.Rows, r **R) error {
		*r = new(R)
		for i, dest := range destOf {
			dests[i] = dest(*r)
		}
		return rows.Scan(dests...)
	})
}

// SelectIn is Select for clauses that end with the name of a column. It reads the rows in
// which the column has one of the keys. end follows the keys in the statement.
func (c Columns[R]) SelectIn(ctx context.Context, conn *Conn, clauses string, keys []string, end string) ([]*R, error) {
	var list []*R
	for keys := range slices.Chunk(keys, MaxListed) {
		part, err := c.Select(ctx, conn, clauses+" IN ("+Placeholders(len(keys))+")"+end, Args(keys)...)
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	return list, nil
}

// Insert inserts rows into the table.
func (c Columns[R]) Insert(ctx context.Context, conn *Conn, table string, rows ...*R) error {
	values, err := c.values(table, rows)
	if err != nil {
		return err
	}
	return conn.Insert(ctx, table, c.names, values)
}

// Upsert inserts rows into the table and overwrites those whose key, the first
// columns, exists.
func (c Columns[R]) Upsert(ctx context.Context, conn *Conn, table string, key int, rows ...*R) error {
	values, err := c.values(table, rows)
	if err != nil {
		return err
	}
	return conn.Upsert(ctx, table, c.names, key, values)
}

func (c Columns[R]) values(table string, rows []*R) ([][]any, error) {
	values := make([][]any, len(rows))
	for i, r := range rows {
		var err error
		if values[i], err = c.Values(r); err != nil {
			return nil, fmt.Errorf("write %s: %w", table, err)
		}
	}
	return values, nil
}

// Values returns what the columns of r store.
func (c Columns[R]) Values(r *R) ([]any, error) {
	values := make([]any, len(c.columns))
	for i, column := range c.columns {
		var err error
		if values[i], err = column.value(r); err != nil {
			return nil, err
		}
	}
	return values, nil
}
