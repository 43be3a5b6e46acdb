package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// maxAttempts is how often a transaction is tried that loses against others.
	maxAttempts = 8
	// maxVariables and maxStatement bound one statement: SQLite takes 32,766
	// variables, a MySQL server no packet above 16 MiB by default.
	maxVariables = 30_000
	maxStatement = 4 << 20
)

// conn runs statements, in a transaction or outside of one.
type conn struct {
	*dialect
	q interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	}
	trace func(query string, args []any)
}

// rows calls scan for each row.
func (c *conn) rows(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) (err error) {
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

// row reads the first row; without one it returns ErrNotFound.
func (c *conn) row(ctx context.Context, query string, args []any, dest ...any) error {
	found := false
	err := c.rows(ctx, query, args, func(r *sql.Rows) error {
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

// exec runs a statement.
func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	if c.trace != nil {
		c.trace(query, args)
	}
	_, err := c.q.ExecContext(ctx, query, args...)
	return err
}

// insertRows inserts rows, in as many statements as the limits demand. onConflict
// is the end of the statement.
func (c *conn) insertRows(ctx context.Context, table string, columns []string, onConflict string, rows [][]any) error {
	most := maxVariables / len(columns)
	for len(rows) > 0 {
		n, bytes := 0, 0
		var args []any
		for n < len(rows) && n < most {
			size := 0
			for _, v := range rows[n] {
				switch v := v.(type) {
				case []byte:
					size += len(v)
				case string:
					size += len(v)
				}
			}
			if n > 0 && bytes+size > maxStatement {
				break
			}
			args = append(args, rows[n]...)
			bytes += size
			n++
		}
		if err := c.exec(ctx, insert(table, columns, n)+onConflict, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// tx is a transaction that writes.
type tx struct {
	conn
	s *Store
	// now is the database's clock when the transaction began.
	now micros
	// commit is what OnCommit is told.
	commit Commit
}

// update runs fn in one transaction, again from the start when it lost against
// another one, and tells OnCommit. fn must not keep what an earlier try left.
func (s *Store) update(ctx context.Context, doing string, fn func(*tx) error) error {
	for try := 1; ; try++ {
		err := s.try(ctx, fn)
		if err == nil || try == maxAttempts || s.dialect.fault(err) != faultBusy {
			return s.fail(doing, err)
		}
		select {
		case <-ctx.Done():
			return s.fail(doing, ctx.Err())
		case <-time.After(rand.N(time.Duration(try*try) * 5 * time.Millisecond)): //nolint:gosec // jitter
		}
	}
}

// updateUnique is update for a fn that inserts what another transaction may insert
// as well: then it runs once more, and sees what the other one did.
func (s *Store) updateUnique(ctx context.Context, doing string, fn func(*tx) error) error {
	err := s.update(ctx, doing, fn)
	if s.dialect.fault(err) == faultDuplicate {
		err = s.update(ctx, doing, fn)
	}
	return err
}

func (s *Store) try(ctx context.Context, fn func(*tx) error) error {
	q, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := &tx{conn: conn{dialect: s.dialect, q: q, trace: s.trace}, s: s}
	if t.now, err = s.now(ctx, &t.conn); err == nil {
		err = fn(t)
	}
	if err != nil {
		// The error that led here is the one to report; a connection that cannot
		// be rolled back is dropped by its pool.
		_ = q.Rollback()
		return err
	}
	if err := q.Commit(); err != nil {
		return err
	}
	s.flights.begin(t.commit.Claims)
	if len(t.commit.Tasks) > 0 || t.commit.Due || t.commit.Rollouts {
		s.onCommit(t.commit)
	}
	return nil
}

// view runs fn in a transaction whose reads are of one moment.
func (s *Store) view(ctx context.Context, doing string, fn func(*conn) error) error {
	q, err := s.read.BeginTx(ctx, &s.dialect.snapshot)
	if err != nil {
		return s.fail(doing, err)
	}
	err = fn(&conn{dialect: s.dialect, q: q, trace: s.trace})
	_ = q.Rollback() // nothing was written
	return s.fail(doing, err)
}

// direct runs single statements that only read.
func (s *Store) direct() *conn { return &conn{dialect: s.dialect, q: s.read, trace: s.trace} }

func (s *Store) now(ctx context.Context, c *conn) (micros, error) {
	if s.clock != nil {
		return microsOf(s.clock()), nil
	}
	return s.dialect.now(ctx, c)
}
