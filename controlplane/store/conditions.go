package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// responseKey is the primary key of a response.
type responseKey struct{ task, endpoint string }

func (k responseKey) compare(o responseKey) int {
	return cmp.Or(strings.Compare(k.task, o.task), strings.Compare(k.endpoint, o.endpoint))
}

// queryKeys reads a query of the columns task_id and endpoint.
func queryKeys(ctx context.Context, c *sqldb.Conn, query string, args ...any) ([]responseKey, error) {
	return sqldb.List(ctx, c, query, args, func(r *sql.Rows, k *responseKey) error { return r.Scan(&k.task, &k.endpoint) })
}

func taskIDs(keys []responseKey) []string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.task
	}
	return ids
}

func endpointNames(keys []responseKey) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.endpoint
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Bounds on the tasks that one condition and one UPDATE name. Larger statements cost more
// to plan (MySQL) and to evaluate (SQLite) than the round trips that they save, and SQLite
// limits the depth of an expression.
const (
	keysPerStatement  = 32
	tasksPerStatement = 16
)

// condition is a WHERE clause with its arguments.
type condition struct {
	where string
	args  []any
}

// keyConditions returns conditions that select the keys by primary key.
func keyConditions(keys []responseKey) []condition {
	slices.SortFunc(keys, responseKey.compare)
	keys = slices.Compact(keys)
	var conditions []condition
	var groups []string
	var args []any
	flush := func() {
		if len(groups) > 0 {
			conditions = append(conditions, condition{"(" + strings.Join(groups, " OR ") + ")", args})
			groups, args = nil, nil
		}
	}
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && n < sqldb.MaxListed && keys[n].task == keys[0].task {
			n++
		}
		groups = append(groups, "(task_id = ? AND endpoint IN ("+sqldb.Placeholders(n)+"))")
		args = append(args, keys[0].task)
		for _, k := range keys[:n] {
			args = append(args, k.endpoint)
		}
		keys = keys[n:]
		if len(groups) == keysPerStatement || len(args) > 2*sqldb.MaxListed {
			flush()
		}
	}
	flush()
	return conditions
}

// statusIn returns the condition that a response has one of the statuses that match.
func statusIn(match func(tasker.ResponseStatus) bool) string {
	list := slices.DeleteFunc(tasker.ResponseStatuses(), func(s tasker.ResponseStatus) bool { return !match(s) })
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "status IN (" + strings.Join(quoted, ",") + ")"
}

// quote returns the status as a literal.
func quote(s tasker.ResponseStatus) string { return "'" + string(s) + "'" }

// isUnended reports whether a response with this status can still change.
func isUnended(s tasker.ResponseStatus) bool { return !s.Ended() }

// isWithAgent reports whether an agent has received the assignment and not ended it.
func isWithAgent(s tasker.ResponseStatus) bool {
	return s.Rank() >= tasker.Received.Rank() && !s.Ended()
}

// isFailure reports whether tasker.Counts.Failures counts the status.
func isFailure(s tasker.ResponseStatus) bool {
	return s.Ended() && s != tasker.Succeeded && s != tasker.Skipped
}
