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

// here is a time by the clock of this machine, by which orders expire in a transport;
// now is what the database's said a moment ago.
func (s *Store) here(at, now micros) time.Time {
	clock := time.Now
	if s.clock != nil {
		clock = s.clock
	}
	return clock().UTC().Add(time.Duration(at-now) * time.Microsecond)
}
