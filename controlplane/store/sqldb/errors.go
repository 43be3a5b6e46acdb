package sqldb

import (
	"context"
	"errors"
	"fmt"
)

// The errors of this package; match them with errors.Is.
var (
	// ErrNotFound: no row matches.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: the database cannot be reached or cannot write now.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrSchema: the tables are missing or of another version.
	ErrSchema = errors.New("database schema")
)

// errorClass is a kind of driver error, by how a caller can react to it.
type errorClass int

const (
	// classOther: the statement or its values are wrong.
	classOther errorClass = iota
	// classDuplicate: a row with this key exists.
	classDuplicate
	// classBusy: the transaction was rolled back because of a deadlock or lock timeout.
	// It can be retried at once.
	classBusy
	// classUnavailable: the database cannot be reached or cannot write now.
	classUnavailable
)

// IsTransient reports whether the database was unavailable or the caller's context has
// ended. The statements are not at fault then.
func IsTransient(err error) bool { return errors.Is(err, ErrUnavailable) || isContextError(err) }

func (d *dialect) wrap(action string, err error) error {
	switch {
	case err == nil:
		return nil
	case IsTransient(err):
	case d.classify(err) == classUnavailable, d.classify(err) == classBusy:
		return fmt.Errorf("%s: %w: %w", action, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", action, err)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
