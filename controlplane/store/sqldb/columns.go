package sqldb

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Column maps one column of a table to a field of R.
type Column[R any] struct {
	name string
	// dest returns where Scan stores the column, value what is stored in it.
	dest  func(*R) any
	value func(*R) (any, error)

	mutable, optional bool
}

// Mutable marks a column that changes after its row was inserted.
func (c Column[R]) Mutable() Column[R] {
	c.mutable = true
	return c
}

// Optional marks a column that is NULL in every new row.
func (c Column[R]) Optional() Column[R] {
	c.optional = true
	return c
}

// Field maps a column to a field of a type that the driver reads and writes.
func Field[R, T any](name string, field func(*R) *T) Column[R] {
	return Column[R]{
		name:  name,
		dest:  func(r *R) any { return field(r) },
		value: func(r *R) (any, error) { return *field(r), nil },
	}
}

// IntOrNull maps a column to a number; zero is NULL.
func IntOrNull[R any](name string, field func(*R) *int) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				var n sql.NullInt64
				err := n.Scan(v)
				*field(r) = int(n.Int64)
				return err
			})
		},
		value: func(r *R) (any, error) {
			if n := *field(r); n != 0 {
				return n, nil
			}
			return nil, nil
		},
	}
}

// Text maps a column to a string.
func Text[R any, T ~string](name string, field func(*R) *T) Column[R] {
	return Column[R]{
		name:  name,
		dest:  func(r *R) any { return field(r) },
		value: func(r *R) (any, error) { return string(*field(r)), nil },
	}
}

// Bytes maps a column to bytes; nil is NULL.
func Bytes[R any, T ~[]byte](name string, field func(*R) *T) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				switch v := v.(type) {
				case nil:
					*field(r) = nil
				case []byte:
					*field(r) = append(T{}, v...)
				case string:
					*field(r) = T(v)
				default:
					return fmt.Errorf("it is a %T", v)
				}
				return nil
			})
		},
		value: func(r *R) (any, error) {
			if b := []byte(*field(r)); b != nil {
				return b, nil
			}
			return nil, nil
		},
	}
}

// Time maps a column of microseconds to a moment.
func Time[R any](name string, field func(*R) *time.Time) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				var m Micros
				err := m.Scan(v)
				*field(r) = m.Time()
				return err
			})
		},
		value: func(r *R) (any, error) { return MicrosOf(*field(r)), nil },
	}
}

// TimeOrNull maps a column of microseconds to a moment; nil is NULL.
func TimeOrNull[R any](name string, field func(*R) **time.Time) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				var m Micros
				err := m.Scan(v)
				*field(r) = m.TimeOrNil()
				return err
			})
		},
		value: func(r *R) (any, error) { return MicrosOrNull(*field(r)), nil },
	}
}

// Duration maps a column of microseconds to a duration.
func Duration[R any, D ~int64](name string, field func(*R) *D) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				var m Micros
				err := m.Scan(v)
				*field(r) = D(m) * D(time.Microsecond)
				return err
			})
		},
		value: func(r *R) (any, error) { return int64(*field(r)) / int64(time.Microsecond), nil },
	}
}

// JSON maps a column of JSON to a field; nil is NULL.
func JSON[R, T any](name string, field func(*R) *T) Column[R] {
	return Column[R]{
		name: name,
		dest: func(r *R) any {
			return scanFunc(func(v any) error {
				switch v := v.(type) {
				case nil:
					return nil
				case []byte:
					return json.Unmarshal(v, field(r))
				case string:
					return json.Unmarshal([]byte(v), field(r))
				}
				return fmt.Errorf("it is a %T", v)
			})
		},
		value: func(r *R) (any, error) {
			b, err := json.Marshal(field(r))
			if err != nil {
				return nil, fmt.Errorf("encode %s: %w", name, err)
			}
			if text := string(b); text != "null" {
				return text, nil
			}
			return nil, nil
		},
	}
}

// scanFunc is a sql.Scanner.
type scanFunc func(v any) error

// Scan implements sql.Scanner.
func (f scanFunc) Scan(v any) error { return f(v) }

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
	return NewColumns(append(c.columns[:len(c.columns):len(c.columns)], more...)...)
}

// Mutable returns the columns that change after a row was inserted.
func (c Columns[R]) Mutable() Columns[R] {
	return c.filter(func(column Column[R]) bool { return column.mutable })
}

// Required returns the columns that a new row needs.
func (c Columns[R]) Required() Columns[R] {
	return c.filter(func(column Column[R]) bool { return !column.optional })
}

func (c Columns[R]) filter(keep func(Column[R]) bool) Columns[R] {
	var columns []Column[R]
	for _, column := range c.columns {
		if keep(column) {
			columns = append(columns, column)
		}
	}
	return NewColumns(columns...)
}

// Names returns the names of the columns.
func (c Columns[R]) Names() []string { return c.names }

// String returns the names as a SELECT lists them.
func (c Columns[R]) String() string { return c.list }

// Scan reads the current row of a query of these columns into r.
func (c Columns[R]) Scan(rows interface{ Scan(dest ...any) error }, r *R) error {
	dest := make([]any, len(c.columns))
	for i, column := range c.columns {
		dest[i] = column.dest(r)
	}
	return rows.Scan(dest...)
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
