package store

import (
	"context"
	"database/sql"
)

// Trace calls fn with every statement.
func (s *Store) Trace(fn func(query string, args []any)) { s.db.Trace(fn) }

// DB is the connection that reads.
func (s *Store) DB() *sql.DB {
	_, reader := s.db.Pools()
	return reader
}

// Writer is the connection that writes.
func (s *Store) Writer() *sql.DB {
	writer, _ := s.db.Pools()
	return writer
}

// Dialect is sqlite or mysql.
func (s *Store) Dialect() string { return s.db.Dialect() }

// Clear empties the tables, which is faster than Reset.
func (s *Store) Clear(ctx context.Context) error {
	defer s.clearCaches()
	for _, table := range []string{"tasks", "endpoints", "endpoint_labels", "enrol_tokens", "credentials", "revoked_secrets", "signing_keys", "public_keys"} {
		if _, err := s.Writer().ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
	}
	return nil
}

// Cache exports cache for strings.
type Cache struct{ cache[string, string] }

// NewCache returns an empty cache.
func NewCache() *Cache {
	return &Cache{cache[string, string]{values: map[string]string{}}}
}

// Get exports cache.get.
func (c *Cache) Get(key string, read func() (string, error)) (string, error) {
	return c.get(key, read)
}

// Clear exports cache.clear.
func (c *Cache) Clear() { c.clear() }
