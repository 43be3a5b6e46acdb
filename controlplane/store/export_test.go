package store

import (
	"context"
	"database/sql"
)

// Trace has fn called with every statement.
func (s *Store) Trace(fn func(query string, args []any)) { s.trace = fn }

// DB is the connection that reads.
func (s *Store) DB() *sql.DB { return s.read }

// Writer is the connection that writes.
func (s *Store) Writer() *sql.DB { return s.write }

// Dialect is sqlite or mysql.
func (s *Store) Dialect() string { return s.dialect.name }

// Clear empties the tables, which is quicker than Reset.
func (s *Store) Clear(ctx context.Context) error {
	defer s.forgetCredentials()
	for _, table := range []string{"tasks", "endpoints", "enrol_tokens", "credentials", "signing_keys"} {
		if _, err := s.write.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
	}
	return nil
}

// Remembered is what a Store keeps of what it has read, with names for keys.
type Remembered struct{ known[string, string] }

// NewRemembered keeps nothing yet.
func NewRemembered() *Remembered {
	return &Remembered{known[string, string]{values: map[string]string{}}}
}

// Get is get of what is kept.
func (r *Remembered) Get(key string, read func() (string, error)) (string, error) {
	return r.get(key, read)
}

// Forget is forget of what is kept.
func (r *Remembered) Forget() { r.forget() }
