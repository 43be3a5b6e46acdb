package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// pacing is what a rollout does to a task.
type pacing int

const (
	pacedNever pacing = iota // it has none
	pacedOnce                // it is over
	pacedNow                 // it decides what is sent
)

// The values of claims, by which a rollout keeps others off its endpoints; null
// keeps nobody off.
const (
	claimsNothing = 0
	claimsNext    = 1 // it waits for others, before those that came later
	claimsNow     = 2
)

// rolloutRow is a row of rollouts.
type rolloutRow struct {
	tasker.Rollout
	taskID  string
	checkAt micros
	claims  int
}

const (
	rolloutChanges = "waves, wave, state, resume, accepted, reason, until_at, rollback_task, claims, check_at"
	rolloutColumns = "task_id, spec, exclusive, " + rolloutChanges
)

func scanRollout(row scanner) (*rolloutRow, error) {
	var (
		r           rolloutRow
		spec, waves []byte
		until       micros
		claims      sql.NullInt64
	)
	err := row.Scan(&r.taskID, &spec, &r.Exclusive, &waves, &r.Wave, &r.State, &r.Resume, &r.Accepted, &r.Reason,
		&until, &r.Rollback, &claims, &r.checkAt)
	if err == nil {
		err = json.Unmarshal(spec, &r.RolloutSpec)
	}
	if err == nil {
		err = json.Unmarshal(waves, &r.Waves)
	}
	if err != nil {
		return nil, fmt.Errorf("read the rollout of task %s: %w", r.taskID, err)
	}
	r.Until, r.claims = until.at(), int(claims.Int64)
	return &r, nil
}

// changes are the row's columns in the order of rolloutChanges.
func (r *rolloutRow) changes() ([]any, error) {
	waves, err := json.Marshal(r.Waves)
	if err != nil {
		return nil, fmt.Errorf("write the waves of task %s: %w", r.taskID, err)
	}
	var claims any
	if r.claims != claimsNothing {
		claims = r.claims
	}
	return []any{
		string(waves), r.Wave, string(r.State), string(r.Resume), r.Accepted, r.Reason, microsAt(r.Until), r.Rollback, claims, r.checkAt,
	}, nil
}

// values are the row's columns in the order of rolloutColumns.
func (r *rolloutRow) values() ([]any, error) {
	spec, err := json.Marshal(r.RolloutSpec)
	if err != nil {
		return nil, fmt.Errorf("write the rollout of task %s: %w", r.taskID, err)
	}
	changes, err := r.changes()
	return append([]any{r.taskID, string(spec), r.Exclusive}, changes...), err
}

// rollout is that of a new task, before anything is sent; nil without one.
func (t NewTask) rollout(id string, now micros) *rolloutRow {
	if t.Rollout == nil {
		return nil
	}
	r := &rolloutRow{taskID: id, Rollout: tasker.Rollout{
		RolloutSpec: *t.Rollout, Waves: t.Rollout.Sizes(len(t.Endpoints)), State: tasker.RolloutScheduled,
	}}
	if t.Action == tasker.Plan {
		// Nothing is performed, so there is nothing to wait for.
		r.State, r.Wave = tasker.RolloutPlanned, len(r.Waves)
		return r
	}
	r.checkAt = max(now, microsAt(t.NotBefore))
	return r
}

// numbers numbers n endpoints by the waves they are in, from 1.
func (r *rolloutRow) numbers(n int) []int {
	numbers := make([]int, 0, n)
	for i, size := range r.Waves {
		numbers = append(numbers, slices.Repeat([]int{i + 1}, size)...)
	}
	return numbers
}

// withRollouts are the tasks of the rows, with their rollouts.
func (c *conn) withRollouts(ctx context.Context, rows []*taskRow) ([]tasker.Task, error) {
	tasks := make([]tasker.Task, len(rows))
	at := map[string]int{}
	var ids []string
	for i, row := range rows {
		tasks[i] = row.Task
		if row.pacing != pacedNever {
			at[row.ID], ids = i, append(ids, row.ID)
		}
	}
	for ids := range slices.Chunk(ids, 1000) {
		err := c.rows(ctx, "SELECT "+rolloutColumns+" FROM rollouts WHERE task_id IN ("+marks(len(ids))+")", anys(ids), func(r *sql.Rows) error {
			row, err := scanRollout(r)
			if err == nil {
				tasks[at[row.taskID]].Rollout = &row.Rollout
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read rollouts: %w", err)
		}
	}
	return tasks, nil
}

// checkRollouts has the rollouts of tasks that have changed looked at.
func (u *unit) checkRollouts(ctx context.Context, tasks []string) error {
	for ids := range slices.Chunk(tasks, 1000) {
		query := "UPDATE rollouts SET check_at = ? WHERE task_id IN (" + marks(len(ids)) + ")"
		if err := u.exec(ctx, query, append([]any{u.now}, anys(ids)...)...); err != nil {
			return fmt.Errorf("have rollouts looked at: %w", err)
		}
		u.commit.Rollouts = true
	}
	return nil
}

// rollout reads and locks the rollout of a task that is locked; again it is the same.
func (u *unit) rollout(ctx context.Context, task string) (*rolloutRow, error) {
	row := u.rollouts[task]
	if row != nil {
		return row, nil
	}
	err := u.conn.rows(ctx, "SELECT "+rolloutColumns+" FROM rollouts WHERE task_id = ?"+u.forUpdate, []any{task}, func(r *sql.Rows) (err error) {
		row, err = scanRollout(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lock a rollout: %w", err)
	}
	if row == nil {
		return nil, ErrNoRollout
	}
	u.rollouts[task] = row
	return row, nil
}

// writeRollout writes what has changed in a rollout.
func (t *tx) writeRollout(ctx context.Context, r *rolloutRow) error {
	values, err := r.changes()
	if err != nil {
		return err
	}
	sets := make([]string, 0, len(values))
	for _, column := range words(rolloutChanges) {
		sets = append(sets, column+" = ?")
	}
	if err := t.exec(ctx, "UPDATE rollouts SET "+strings.Join(sets, ", ")+" WHERE task_id = ?", append(values, r.taskID)...); err != nil {
		return fmt.Errorf("write a rollout: %w", err)
	}
	return nil
}

// again has a rollout begin anew at a time, in waves of those that have not
// succeeded, in the order in which they were. Those that have are in none any more.
func (u *unit) again(ctx context.Context, t *taskRow, n int, begin micros) error {
	r, err := u.rollout(ctx, t.ID)
	if err != nil {
		return err
	}
	names, err := u.strings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND status <> 'succeeded' ORDER BY wave, endpoint", t.ID)
	if err != nil {
		return fmt.Errorf("look where the task did not succeed: %w", err)
	}
	r.Rollout = tasker.Rollout{RolloutSpec: r.RolloutSpec, Waves: r.Sizes(n), State: tasker.RolloutWaiting}
	if begin > u.now {
		r.State = tasker.RolloutScheduled
	}
	r.checkAt, u.commit.Rollouts = begin, true
	r.settle(t)
	err = u.exec(ctx, "UPDATE responses SET wave = 0, version = ? WHERE task_id = ? AND status = 'succeeded'", t.Version+1, t.ID)
	if err != nil {
		return fmt.Errorf("number the waves: %w", err)
	}
	for i, size := range r.Waves {
		for part := range slices.Chunk(names[:size], 1000) {
			err := u.exec(ctx, "UPDATE responses SET wave = ? WHERE task_id = ? AND endpoint IN ("+marks(len(part))+")",
				append([]any{i + 1, t.ID}, anys(part)...)...)
			if err != nil {
				return fmt.Errorf("number the waves: %w", err)
			}
		}
		names = names[size:]
	}
	return u.writeRollout(ctx, r)
}
