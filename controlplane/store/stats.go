package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
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

// Stats counts open tasks, due orders and what is to be told, bounded in cost.
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
	if err := c.row(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM callbacks WHERE next_at > 0 LIMIT ?) AS due", []any{maxCount}, &out.Callbacks); err != nil {
		return out, s.fail(doing, err)
	}
	err = c.row(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT ?) AS open", []any{maxCount}, &out.Open)
	if err == nil {
		out.Rollouts, err = c.rolloutStates(ctx)
	}
	return out, s.fail(doing, err)
}

// rolloutStates counts the rollouts that are not over.
func (c *conn) rolloutStates(ctx context.Context) (map[tasker.RolloutState]int, error) {
	states := map[tasker.RolloutState]int{}
	var args []any
	for _, state := range tasker.RolloutStates() {
		if !state.Over() {
			states[state], args = 0, append(args, string(state))
		}
	}
	err := c.rows(ctx, "SELECT state, COUNT(*) FROM rollouts WHERE state IN ("+marks(len(args))+") GROUP BY state", args, func(r *sql.Rows) error {
		var state tasker.RolloutState
		var n int
		err := r.Scan(&state, &n)
		states[state] = n
		return err
	})
	return states, err
}
