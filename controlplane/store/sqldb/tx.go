package sqldb

import (
	"context"
	"math/rand/v2"
	"time"
)

// maxTries bounds the tries of a transaction that is rolled back because of a deadlock or
// lock timeout.
const maxTries = 8

// Tx is a transaction that writes.
type Tx struct {
	Conn
	// Now is the time of the database's clock when the transaction began.
	Now Micros
}

// Update runs fn in one transaction. If the transaction was rolled back because of a
// deadlock or lock timeout, fn runs again from the start and must not keep results of an
// earlier try.
func (db *DB) Update(ctx context.Context, action string, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		err := db.tryUpdate(ctx, fn)
		db.recordWrite(err)
		if err == nil || try == maxTries || db.dialect.classify(err) != classBusy {
			return db.Wrap(action, err)
		}
		select {
		case <-ctx.Done():
			return db.Wrap(action, ctx.Err())
		case <-time.After(rand.N(time.Duration(try*try) * 5 * time.Millisecond)): //nolint:gosec // jitter
		}
	}
}

// recordWrite records whether the last write failed, for Check.
func (db *DB) recordWrite(err error) {
	switch {
	case err == nil:
		db.failedWrite.Store(nil)
	case db.dialect.classify(err) == classUnavailable:
		db.failedWrite.Store(&err)
	}
}

// checkWrite returns an error if the last write has failed and another one fails now.
func (db *DB) checkWrite(ctx context.Context) error {
	if db.failedWrite.Load() == nil {
		return nil
	}
	return db.Update(ctx, "write to the database", func(tx *Tx) error {
		return tx.Exec(ctx, "UPDATE "+versionTable+" SET tstamp = CURRENT_TIMESTAMP WHERE version_id = 0")
	})
}

func (db *DB) tryUpdate(ctx context.Context, fn func(*Tx) error) error {
	q, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := &Tx{Conn: db.conn(q)}
	if t.Now, err = db.NowOn(ctx, &t.Conn); err == nil {
		err = fn(t)
	}
	if err != nil {
		// The error that led here is the one to report; a connection that cannot
		// be rolled back is dropped by its pool.
		_ = q.Rollback()
		return err
	}
	return q.Commit()
}

// View runs fn in a transaction that reads one consistent state.
func (db *DB) View(ctx context.Context, action string, fn func(*Conn) error) error {
	q, err := db.reader.BeginTx(ctx, &db.dialect.snapshot)
	if err != nil {
		return db.Wrap(action, err)
	}
	c := db.conn(q)
	err = fn(&c)
	_ = q.Rollback() // nothing was written
	return db.Wrap(action, err)
}

// Reader runs single statements that only read.
func (db *DB) Reader() *Conn {
	c := db.conn(db.reader)
	return &c
}

func (db *DB) conn(q querier) Conn {
	return Conn{Syntax: &db.dialect.Syntax, dialect: db.dialect, q: q, trace: db.trace}
}

// Now reads the database's clock.
func (db *DB) Now(ctx context.Context) (Micros, error) { return db.NowOn(ctx, db.Reader()) }

// NowOn reads the database's clock through a connection.
func (db *DB) NowOn(ctx context.Context, c *Conn) (Micros, error) {
	if db.clock != nil {
		return MicrosOf(db.clock()), nil
	}
	return db.dialect.now(ctx, c)
}
