package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Stats are the numbers shown as metrics. Each count but Rollouts is bounded: 100,000 for
// each queue.
type Stats struct {
	// Due is the number of orders that are due now.
	Due int
	// OldestDue is how long the oldest of them has been due.
	OldestDue time.Duration
	// Connected is the number of connected endpoints.
	Connected int
	// Open is the number of tasks that have not finished.
	Open int
	// Rollouts is the number of rollouts in each state that is not over.
	Rollouts map[tasker.RolloutState]int
	// Callbacks is the number of callbacks that are not delivered yet.
	Callbacks int
}

// Statistics counts rows.
type Statistics struct{ db *database }

// Stats counts unfinished tasks, due orders and undelivered callbacks, at a bounded
// cost.
func (s *Statistics) Stats(ctx context.Context) (Stats, error) {
	out, err := s.count(ctx)
	return out, s.db.Wrap("count", err)
}

func (s *Statistics) count(ctx context.Context) (out Stats, err error) {
	now, err := s.db.Now(ctx)
	if err != nil {
		return out, err
	}
	c := s.db.Reader()
	if out.Due, out.OldestDue, err = countDue(ctx, c, now); err != nil {
		return out, err
	}
	if out.Connected, err = countConnected(ctx, c, now); err != nil {
		return out, err
	}
	if out.Callbacks, err = countRows(ctx, c, "callbacks WHERE next_at > 0"); err != nil {
		return out, err
	}
	if out.Open, err = countRows(ctx, c, "tasks WHERE finished_at IS NULL"); err != nil {
		return out, err
	}
	out.Rollouts, err = countRollouts(ctx, c)
	return out, err
}

// maxCount bounds the rows that are counted, and with them the cost.
const maxCount = 100_000

// countRows counts the rows of FROM and the clauses that follow, up to maxCount.
func countRows(ctx context.Context, c *sqldb.Conn, from string, args ...any) (n int, err error) {
	err = c.QueryRow(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM "+from+" LIMIT ?) AS counted", append(args, maxCount), &n)
	return n, err
}

// countConnected counts the connected endpoints, up to maxCount.
func countConnected(ctx context.Context, c *sqldb.Conn, now sqldb.Micros) (int, error) {
	return countRows(ctx, c, "endpoints WHERE silent_at > ? AND connected = 1", now)
}

// countDue counts the due orders and returns how long the oldest has been due.
func countDue(ctx context.Context, c *sqldb.Conn, now sqldb.Micros) (int, time.Duration, error) {
	count, oldest := 0, now
	for _, q := range dueQueues() {
		var n int
		var at sqldb.Micros
		due := q.dueCondition(now)
		query := "SELECT COUNT(*), MIN(d) FROM (SELECT " + q.column + " AS d FROM " + q.table + " WHERE " + due.where +
			" ORDER BY " + q.column + " LIMIT ?) AS due"
		if err := c.QueryRow(ctx, query, append(due.args, maxCount), &n, &at); err != nil {
			return 0, 0, err
		}
		count += n
		if at != 0 {
			oldest = min(oldest, at)
		}
	}
	return count, now.Sub(oldest), nil
}

// countRollouts counts the rollouts that are not over by state.
func countRollouts(ctx context.Context, c *sqldb.Conn) (map[tasker.RolloutState]int, error) {
	counts := map[tasker.RolloutState]int{}
	var args []any
	for _, state := range tasker.RolloutStates() {
		if !state.Ended() {
			counts[state], args = 0, append(args, string(state))
		}
	}
	query := "SELECT state, COUNT(*) FROM rollouts WHERE state IN (" + sqldb.Placeholders(len(args)) + ") GROUP BY state"
	err := c.Query(ctx, query, args, func(r *sql.Rows) error {
		var state tasker.RolloutState
		var n int
		err := r.Scan(&state, &n)
		counts[state] = n
		return err
	})
	return counts, err
}
