package store

import (
	"context"
	"errors"
	"time"
)

// maxCount bounds what Stats counts, so that its cost is bounded too.
const maxCount = 100_000

// NextDue is when the next order is due; zero if none is waiting.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	const doing = "look for the next order"
	c := s.direct()
	now, err := s.now(ctx, c)
	if err != nil {
		return time.Time{}, s.fail(doing, err)
	}
	var first micros
	for _, q := range queues() {
		var at micros
		args := []any{}
		if q.deadline != "" {
			args = append(args, now)
		}
		query := "SELECT " + q.column + " FROM " + q.table + " WHERE " + q.column + " IS NOT NULL" + q.open() + " ORDER BY " + q.column + " LIMIT 1"
		switch err := c.row(ctx, query, args, &at); {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return time.Time{}, s.fail(doing, err)
		case first == 0 || at < first:
			first = at
		}
	}
	if first == 0 {
		return time.Time{}, nil
	}
	return first.time(), nil
}

// Stats counts open tasks and due orders, bounded in cost.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	const doing = "count"
	var out Stats
	c := s.direct()
	now, err := s.now(ctx, c)
	if err != nil {
		return out, s.fail(doing, err)
	}
	oldest := now
	for _, q := range queues() {
		args := []any{now}
		if q.deadline != "" {
			args = append(args, now)
		}
		var n int
		var at micros
		query := "SELECT COUNT(*), MIN(d) FROM (SELECT " + q.column + " AS d FROM " + q.table + " WHERE " + q.column + " <= ?" + q.open() +
			" ORDER BY " + q.column + " LIMIT ?) AS due"
		if err := c.row(ctx, query, append(args, maxCount), &n, &at); err != nil {
			return out, s.fail(doing, err)
		}
		out.Due += n
		if at != 0 {
			oldest = min(oldest, at)
		}
	}
	out.OldestDue = time.Duration(now-oldest) * time.Microsecond
	if out.Connected, err = c.connected(ctx, now); err != nil {
		return out, s.fail(doing, err)
	}
	err = c.row(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT ?) AS open", []any{maxCount}, &out.Open)
	return out, s.fail(doing, err)
}
