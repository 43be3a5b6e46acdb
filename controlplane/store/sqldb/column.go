package sqldb

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Column maps one column of a table to a field of R.
type Column[R any] struct {
	name string
	// newDest returns a function that returns the destination of Scan for a row. All rows
	// of a query use the same function, so they share the memory of the conversion.
	newDest func() func(*R) any
	// value returns what the column of a row stores.
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
		name:    name,
		newDest: func() func(*R) any { return func(r *R) any { return field(r) } },
		value:   func(r *R) (any, error) { return *field(r), nil },
	}
}

// Text maps a column to a string.
func Text[R any, T ~string](name string, field func(*R) *T) Column[R] {
	c := Field(name, field)
	c.value = func(r *R) (any, error) { return string(*field(r)), nil }
	return c
}

// converted maps a column to a field: load converts what is stored, zero for NULL, and
// store converts it back.
func converted[R, T, S any](name string, field func(*R) *T, load func(*T, S) error, store func(T) (any, error)) Column[R] {
	return Column[R]{
		name: name,
		newDest: func() func(*R) any {
			var row *R
			var stored sql.Null[S]
			var dest sql.Scanner = scanFunc(func(v any) error {
				if err := stored.Scan(v); err != nil {
					return err
				}
				return load(field(row), stored.V)
			})
			return func(r *R) any {
				row = r
				return dest
			}
		},
		value: func(r *R) (any, error) { return store(*field(r)) },
	}
}

// scanFunc is a sql.Scanner.
type scanFunc func(v any) error

// Scan implements sql.Scanner.
func (f scanFunc) Scan(v any) error { return f(v) }

// Bytes maps a column to bytes; nil is NULL.
func Bytes[R any, T ~[]byte](name string, field func(*R) *T) Column[R] {
	return converted(name, field, func(b *T, stored []byte) error {
		*b = stored
		return nil
	}, func(b T) (any, error) {
		if b == nil {
			return nil, nil
		}
		return []byte(b), nil
	})
}

// JSONText maps a column to JSON as it was written; nil is NULL. Invalid UTF-8 is replaced;
// a value that is then no JSON is read as nil. Otherwise one such row would make the
// encoding of its list fail.
func JSONText[R any, T ~[]byte](name string, field func(*R) *T) Column[R] {
	c := converted(name, field, func(b *T, stored []byte) error {
		if !utf8.Valid(stored) {
			stored = bytes.ToValidUTF8(stored, []byte("\uFFFD"))
		}
		if *b = nil; json.Valid(stored) {
			*b = stored
		}
		return nil
	}, nil)
	c.value = Bytes(name, field).value
	return c
}

// Time maps a column of microseconds to a moment.
func Time[R any](name string, field func(*R) *time.Time) Column[R] {
	return converted(name, field, func(t *time.Time, stored Micros) error {
		*t = stored.Time()
		return nil
	}, func(t time.Time) (any, error) { return MicrosOf(t), nil })
}

// TimeOrNull maps a column of microseconds to a moment; nil is NULL.
func TimeOrNull[R any](name string, field func(*R) **time.Time) Column[R] {
	return converted(name, field, func(t **time.Time, stored Micros) error {
		*t = stored.TimeOrNil()
		return nil
	}, func(t *time.Time) (any, error) { return MicrosOrNull(t), nil })
}

// Duration maps a column of microseconds to a duration.
func Duration[R any, D ~int64](name string, field func(*R) *D) Column[R] {
	return converted(name, field, func(d *D, stored int64) error {
		*d = D(stored * int64(time.Microsecond))
		return nil
	}, func(d D) (any, error) { return time.Duration(d).Microseconds(), nil })
}

// IntOrNull maps a column to a number; zero is NULL.
func IntOrNull[R any](name string, field func(*R) *int) Column[R] {
	return converted(name, field, func(n *int, stored int64) error {
		*n = int(stored)
		return nil
	}, func(n int) (any, error) {
		if n == 0 {
			return nil, nil
		}
		return n, nil
	})
}

// JSON maps a column of JSON to a field; null is NULL.
func JSON[R, T any](name string, field func(*R) *T) Column[R] {
	return converted(name, field, func(t *T, stored []byte) error {
		if stored == nil {
			return nil
		}
		return json.Unmarshal(stored, t)
	}, func(t T) (any, error) {
		b, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		if string(b) == "null" {
			return nil, nil
		}
		return string(b), nil
	})
}
