package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// key names a response.
type key struct{ task, endpoint string }

func (k key) compare(o key) int {
	return cmp.Or(strings.Compare(k.task, o.task), strings.Compare(k.endpoint, o.endpoint))
}

// unit is the tasks and responses that a transaction holds locked, changes in
// memory and writes back together, so that a task's counts, status and version
// always go with its responses. Whoever changes a response holds its task;
// everybody locks endpoints, tasks, responses in this order and each sorted.
type unit struct {
	*tx
	tasks map[string]*taskRow
	rows  map[key]*responseRow
	// rollouts are those that were read.
	rollouts map[string]*rolloutRow
}

// lock reads and locks tasks; ids that do not exist are left out.
func (t *tx) lock(ctx context.Context, ids []string) (*unit, error) {
	u := &unit{tx: t, tasks: map[string]*taskRow{}, rows: map[key]*responseRow{}, rollouts: map[string]*rolloutRow{}}
	slices.Sort(ids)
	for ids := range slices.Chunk(slices.Compact(ids), 1000) {
		query := "SELECT " + taskState + " FROM tasks WHERE id IN (" + marks(len(ids)) + ") ORDER BY id" + t.forUpdate
		err := t.rows(ctx, query, anys(ids), func(r *sql.Rows) error {
			row, err := scanTask(r, false)
			if err == nil {
				u.tasks[row.ID] = row
				row.stored, err = row.changes()
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("lock tasks: %w", err)
		}
	}
	return u, nil
}

// How many tasks one condition and one UPDATE name: with more of them the
// planning (MySQL) and the evaluation (SQLite) grow faster than the round trips
// saved, and SQLite limits the depth of an expression.
const (
	keysPerStatement  = 32
	tasksPerStatement = 16
)

// conditions are WHERE clauses that name the keys by primary key, each with its
// arguments.
func conditions(keys []key) (where []string, args [][]any) {
	slices.SortFunc(keys, key.compare)
	keys = slices.Compact(keys)
	var groups []string
	var values []any
	flush := func() {
		if len(groups) > 0 {
			where, args = append(where, "("+strings.Join(groups, " OR ")+")"), append(args, values)
			groups, values = nil, nil
		}
	}
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && n < 1000 && keys[n].task == keys[0].task {
			n++
		}
		groups = append(groups, "(task_id = ? AND endpoint IN ("+marks(n)+"))")
		values = append(values, keys[0].task)
		for _, k := range keys[:n] {
			values = append(values, k.endpoint)
		}
		keys = keys[n:]
		if len(groups) == keysPerStatement || len(values) > 2000 {
			flush()
		}
	}
	flush()
	return where, args
}

// load reads and locks responses of tasks that are locked.
func (u *unit) load(ctx context.Context, keys []key) error {
	where, args := conditions(slices.DeleteFunc(keys, func(k key) bool { return u.tasks[k.task] == nil }))
	for i := range where {
		if err := u.read(ctx, where[i], args[i]); err != nil {
			return err
		}
	}
	return nil
}

// loadOpen reads and locks the responses of one task that have not ended.
func (u *unit) loadOpen(ctx context.Context, task string) error {
	return u.read(ctx, "task_id = ? AND status IN ('pending','sent','received','running')", []any{task})
}

func (u *unit) read(ctx context.Context, where string, args []any) error {
	query := "SELECT " + responseState + " FROM responses WHERE " + where + " ORDER BY task_id, endpoint" + u.forUpdate
	err := u.conn.rows(ctx, query, args, func(r *sql.Rows) error {
		row, err := scanResponse(r)
		if err == nil {
			u.rows[key{row.TaskID, row.Endpoint}] = row
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("lock responses: %w", err)
	}
	return nil
}

// end ends a response in place of its agent.
func (u *unit) end(r *responseRow, status tasker.ResponseStatus, reason string, presumed bool) {
	r.Status, r.Reason, r.Presumed, r.FinishedAt = status, reason, presumed, u.now.at()
	r.settle()
	r.changed = true
}

// settle clears what no longer applies in the response's status.
func (r *responseRow) settle() {
	if r.Status.Rank() >= tasker.Received.Rank() {
		r.expiresAt, r.nextSendAt = 0, 0
	}
	if r.Status.Ended() {
		r.cancelSendAt = 0
	}
}

// flush writes what has changed, and returns the tasks that thereby finished,
// without payload and endpoints.
func (u *unit) flush(ctx context.Context) ([]tasker.Task, error) {
	for _, r := range u.rows {
		if r.changed {
			t := u.tasks[r.TaskID]
			if r.Status != r.was {
				t.Counts.Move(r.was, r.Status)
				r.was = r.Status
				t.FinishedAt = nil // what has ended now ends it now
			}
			t.changed = true
		}
	}
	var finished []tasker.Task
	var write []*taskRow
	var paced []string
	for _, id := range slices.Sorted(maps.Keys(u.tasks)) {
		t := u.tasks[id]
		if t.changed {
			t.derive(u.now)
			u.commit.Tasks = append(u.commit.Tasks, id)
			if t.pacing == pacedNow {
				paced = append(paced, id)
			}
			if t.FinishedAt != nil && !t.was {
				finished = append(finished, t.Task)
			}
			if err := u.tell(ctx, t); err != nil {
				return nil, err
			}
		}
		if t.changed || t.dirty {
			write = append(write, t)
		}
	}
	if err := u.writeTasks(ctx, write); err != nil {
		return nil, err
	}
	if err := u.writeResponses(ctx); err != nil {
		return nil, err
	}
	return finished, u.checkRollouts(ctx, paced)
}

// derive gives the task the version, status and end that follow from its counts.
func (t *taskRow) derive(now micros) {
	t.Version++
	t.Status = t.Counts.TaskStatus(t.flags())
	switch {
	case !t.Counts.Finished(t.flags()):
		t.FinishedAt = nil
	case t.FinishedAt == nil:
		t.FinishedAt = now.at()
	}
}

// taskChanges are the columns of a task that change after it was stored.
const taskChanges = `status, reason, counts, attempt, receive_deadline, finished_at, cancel_requested_at,
	cancel_requested_by, broadcast_sent, closes_at, next_send_at, send_tries, cancel_send_at, cancel_tries, version, pacing, paused`

// changes are the row's columns in the order of taskChanges.
func (t *taskRow) changes() ([]any, error) {
	counts, err := json.Marshal(t.Counts)
	if err != nil {
		return nil, fmt.Errorf("write the counts of task %s: %w", t.ID, err)
	}
	return []any{
		string(t.Status), t.Reason, string(counts), t.attempt, t.deadline(), microsAt(t.FinishedAt), microsAt(t.CancelRequestedAt),
		t.CancelRequestedBy, t.sent, t.closesAt, t.nextSendAt, t.tries, t.cancelSendAt, t.cancelTries, t.Version, t.pacing, t.paused,
	}, nil
}

// writeTasks updates many tasks in one statement, in the columns that change. It
// is no upsert because on MySQL those lock gaps of the index of identifiers.
func (u *unit) writeTasks(ctx context.Context, tasks []*taskRow) error {
	for tasks := range slices.Chunk(tasks, tasksPerStatement) {
		var sets []string
		var args, ids []any
		values := make([][]any, len(tasks))
		for i, t := range tasks {
			ids = append(ids, t.ID)
			var err error
			if values[i], err = t.changes(); err != nil {
				return err
			}
		}
		for c, column := range words(taskChanges) {
			changed := false
			for i, t := range tasks {
				changed = changed || t.stored[c] != values[i][c]
			}
			if !changed {
				continue
			}
			sets = append(sets, column+" = CASE id"+strings.Repeat(" WHEN ? THEN ?", len(tasks))+" END")
			for i, t := range tasks {
				args = append(args, t.ID, values[i][c])
			}
		}
		if len(sets) == 0 {
			continue
		}
		query := "UPDATE tasks SET " + strings.Join(sets, ", ") + " WHERE id IN (" + marks(len(ids)) + ")"
		if err := u.exec(ctx, query, append(args, ids...)...); err != nil {
			return fmt.Errorf("write tasks: %w", err)
		}
	}
	return nil
}

func (u *unit) writeResponses(ctx context.Context) error {
	var rows [][]any
	for _, k := range slices.SortedFunc(maps.Keys(u.rows), key.compare) {
		r := u.rows[k]
		if r.changed {
			r.Version = u.tasks[k.task].Version
		}
		if r.changed || r.dirty {
			values, err := r.values()
			if err != nil {
				return err
			}
			rows = append(rows, values)
		}
	}
	columns := words(responseState)
	if err := u.insertRows(ctx, "responses", columns, u.onConflict(columns[:2], columns[2:]), rows); err != nil {
		return fmt.Errorf("write responses: %w", err)
	}
	return nil
}

// readTasks reads whole tasks, in the order of their ids.
func (c *conn) readTasks(ctx context.Context, ids []string) ([]tasker.Task, error) {
	var list []*taskRow
	for ids := range slices.Chunk(ids, 1000) {
		query := "SELECT " + taskBody + " FROM tasks WHERE id IN (" + marks(len(ids)) + ") ORDER BY id"
		err := c.rows(ctx, query, anys(ids), func(r *sql.Rows) error {
			row, err := scanTask(r, true)
			list = append(list, row)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read tasks: %w", err)
		}
	}
	return c.withRollouts(ctx, list)
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
