package store

import (
	"context"
	"time"
)

// Now is the time by the database's clock, by which deadlines are kept.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now, err := s.now(ctx, s.direct())
	if err != nil {
		return time.Time{}, s.fail("read the database's clock", err)
	}
	return now.time(), nil
}
