package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// changeSet holds the tasks and responses that a transaction has locked. It changes
// them in memory and writes them together, so that a task's counts, status and
// version always match its responses.
//
// To change a response, a transaction must lock its task. Every transaction locks
// endpoints, tasks and responses in this order, each sorted.
type changeSet struct {
	*tx
	tasks     map[string]*taskRow
	responses map[responseKey]*responseRow
	// rollouts are those that lockRollout has read.
	rollouts map[string]*rolloutRow
}

// lockTasks reads and locks tasks; ids that do not exist are left out.
func lockTasks(ctx context.Context, t *tx, ids []string) (*changeSet, error) {
	cs := &changeSet{tx: t, tasks: map[string]*taskRow{}, responses: map[responseKey]*responseRow{}, rollouts: map[string]*rolloutRow{}}
	slices.Sort(ids)
	rows, err := taskColumns.SelectIn(ctx, &t.Conn, "FROM tasks WHERE id", slices.Compact(ids), " ORDER BY id"+t.ForUpdate)
	if err != nil {
		return nil, fmt.Errorf("lock tasks: %w", err)
	}
	for _, row := range rows {
		cs.tasks[row.ID] = row
		if err := row.recordStored(); err != nil {
			return nil, fmt.Errorf("lock tasks: %w", err)
		}
	}
	return cs, nil
}

// lockResponses locks tasks, and reads and locks responses of them. ids are further
// tasks to lock.
func lockResponses(ctx context.Context, t *tx, keys []responseKey, ids ...string) (*changeSet, error) {
	cs, err := lockTasks(ctx, t, append(taskIDs(keys), ids...))
	if err != nil {
		return nil, err
	}
	return cs, cs.load(ctx, keys)
}

// load reads and locks responses of tasks that are locked.
func (cs *changeSet) load(ctx context.Context, keys []responseKey) error {
	keys = slices.DeleteFunc(keys, func(k responseKey) bool { return cs.tasks[k.task] == nil })
	for _, c := range keyConditions(keys) {
		if err := cs.loadWhere(ctx, c.where, c.args...); err != nil {
			return err
		}
	}
	return nil
}

// loadWhere reads and locks the responses, of tasks that are locked, that match.
func (cs *changeSet) loadWhere(ctx context.Context, where string, args ...any) error {
	rows, err := responseColumns.Select(ctx, &cs.Conn, "FROM responses WHERE "+where+" ORDER BY task_id, endpoint"+cs.ForUpdate, args...)
	if err != nil {
		return fmt.Errorf("lock responses: %w", err)
	}
	for _, r := range rows {
		r.countedStatus = r.Status
		cs.responses[responseKey{r.TaskID, r.Endpoint}] = r
	}
	return nil
}

// end ends a response without a report of its agent. A presumed end gives way to a
// later report.
func (cs *changeSet) end(r *responseRow, status tasker.ResponseStatus, reason string, presumed bool) {
	r.Status, r.Reason, r.Presumed, r.FinishedAt = status, reason, presumed, cs.Now.TimeOrNil()
	r.clearTimers()
	r.changed = true
}

// endLost ends a response whose agent does not report any more. The status is interrupted
// even if a cancel was requested: only the agent can report that no process is left.
func (cs *changeSet) endLost(r *responseRow, reason string) {
	cs.end(r, tasker.Interrupted, reason, true)
}

// write writes the changes, and returns the tasks that they finished, without
// payload and endpoints.
func (cs *changeSet) write(ctx context.Context) ([]tasker.Task, error) {
	cs.countResponses()
	var finished []tasker.Task
	var dirty []*taskRow
	for _, id := range slices.Sorted(maps.Keys(cs.tasks)) {
		t := cs.tasks[id]
		if r := cs.rollouts[id]; r != nil && r.dirty {
			r.derive(t)
			t.dirty = true
		}
		if t.changed || t.dirty {
			dirty = append(dirty, t)
		}
		if !t.changed {
			continue
		}
		t.deriveStatus(cs.Now)
		cs.commit.Tasks = append(cs.commit.Tasks, id)
		if t.FinishedAt != nil && !t.wasFinished {
			finished = append(finished, t.Task)
		}
		if err := insertCallbacks(ctx, cs, t); err != nil {
			return nil, err
		}
	}
	for tasks := range slices.Chunk(dirty, tasksPerStatement) {
		if err := cs.updateTasks(ctx, tasks); err != nil {
			return nil, fmt.Errorf("write tasks: %w", err)
		}
	}
	if err := cs.writeResponses(ctx); err != nil {
		return nil, err
	}
	return finished, writeRollouts(ctx, cs)
}

// countResponses moves changed responses to their new status in their tasks' counts.
func (cs *changeSet) countResponses() {
	for _, r := range cs.responses {
		if !r.changed {
			continue
		}
		t := cs.tasks[r.TaskID]
		if r.Status != r.countedStatus {
			t.Counts.Transition(r.countedStatus, r.Status)
			r.countedStatus = r.Status
			t.FinishedAt = nil // the task finishes now, if it has finished
		}
		t.change()
	}
}

// updateTasks updates the columns that changed in any of the tasks. It is not an
// upsert because upserts lock gaps of the index of identifiers on MySQL.
func (cs *changeSet) updateTasks(ctx context.Context, tasks []*taskRow) error {
	ids := make([]any, len(tasks))
	values := make([][]any, len(tasks))
	for i, t := range tasks {
		ids[i] = t.ID
		var err error
		if values[i], err = mutableTaskColumns.Values(t); err != nil {
			return err
		}
	}
	var sets []string
	var args []any
	for c, column := range mutableTaskColumns.Names() {
		changed := false
		for i, t := range tasks {
			changed = changed || t.storedValues[c] != values[i][c]
		}
		if !changed {
			continue
		}
		sets = append(sets, column+" = CASE id"+strings.Repeat(" WHEN ? THEN ?", len(tasks))+" END")
		for i, id := range ids {
			args = append(args, id, values[i][c])
		}
	}
	if len(sets) == 0 {
		return nil
	}
	query := "UPDATE tasks SET " + strings.Join(sets, ", ") + " WHERE id IN (" + sqldb.Placeholders(len(ids)) + ")"
	return cs.Exec(ctx, query, append(args, ids...)...)
}

func (cs *changeSet) writeResponses(ctx context.Context) error {
	var dirty []*responseRow
	for _, k := range slices.SortedFunc(maps.Keys(cs.responses), responseKey.compare) {
		r := cs.responses[k]
		if r.changed {
			r.Version = cs.tasks[k.task].Version
		}
		if r.changed || r.dirty {
			dirty = append(dirty, r)
		}
	}
	return responseColumns.Upsert(ctx, &cs.Conn, "responses", responseKeyColumns, dirty...)
}
