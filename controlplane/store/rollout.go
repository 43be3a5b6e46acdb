package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// pacing is whether a rollout decides when a task's orders are sent.
type pacing int

const (
	noRollout pacing = iota
	rolloutEnded
	rolloutActive
)

// rolloutRow is a row of rollouts.
type rolloutRow struct {
	tasker.Rollout
	taskID    string
	checkAt   sqldb.Micros
	exclusion int

	// dirty: to be written.
	dirty bool
}

// The columns of rollouts: all, and those that change.
//
//nolint:gochecknoglobals // constant
var (
	rolloutColumns = sqldb.NewColumns(
		sqldb.Text("task_id", func(r *rolloutRow) *string { return &r.taskID }),
		sqldb.JSON("spec", func(r *rolloutRow) *tasker.RolloutSpec { return &r.RolloutSpec }),
		sqldb.Field("exclusive", func(r *rolloutRow) *bool { return &r.Exclusive }),
		sqldb.JSON("waves", func(r *rolloutRow) *[]int { return &r.Waves }).Mutable(),
		sqldb.Field("wave", func(r *rolloutRow) *int { return &r.Wave }).Mutable(),
		sqldb.Text("state", func(r *rolloutRow) *tasker.RolloutState { return &r.State }).Mutable(),
		sqldb.Text("resume", func(r *rolloutRow) *tasker.RolloutState { return &r.Resume }).Mutable(),
		sqldb.Field("accepted", func(r *rolloutRow) *int { return &r.Accepted }).Mutable(),
		sqldb.Text("reason", func(r *rolloutRow) *string { return &r.Reason }).Mutable(),
		sqldb.TimeOrNull("until_at", func(r *rolloutRow) **time.Time { return &r.Until }).Mutable(),
		sqldb.Text("rollback_task", func(r *rolloutRow) *string { return &r.Rollback }).Mutable(),
		sqldb.IntOrNull("claims", func(r *rolloutRow) *int { return &r.exclusion }).Mutable(),
		sqldb.Field("check_at", func(r *rolloutRow) *sqldb.Micros { return &r.checkAt }).Mutable(),
	)
	mutableRolloutColumns = rolloutColumns.Mutable()
)

// newRollout returns the rollout of a new task, before anything is sent; nil if it has
// none.
func newRollout(t NewTask, id string, now sqldb.Micros) *rolloutRow {
	if t.Rollout == nil {
		return nil
	}
	r := &rolloutRow{taskID: id, Rollout: tasker.Rollout{
		RolloutSpec: *t.Rollout, Waves: t.Rollout.WaveSizes(len(t.Endpoints)), State: tasker.RolloutScheduled,
	}}
	if t.Action == tasker.DryRun {
		// A dry run changes nothing, so there is nothing to wait for.
		r.State, r.Wave = tasker.RolloutPlanned, len(r.Waves)
		return r
	}
	r.checkAt = max(now, sqldb.MicrosOrNull(t.NotBefore))
	return r
}

// waveNumbers returns the wave of each endpoint, from 1.
func (r *rolloutRow) waveNumbers() []int {
	var numbers []int
	for i, size := range r.Waves {
		numbers = append(numbers, slices.Repeat([]int{i + 1}, size)...)
	}
	return numbers
}

// withRollouts returns the tasks of the rows with their rollouts.
func withRollouts(ctx context.Context, c *sqldb.Conn, rows []*taskRow) ([]tasker.Task, error) {
	tasks := make([]tasker.Task, len(rows))
	at := map[string]int{}
	var ids []string
	for i, row := range rows {
		tasks[i] = row.Task
		if row.pacing != noRollout {
			at[row.ID], ids = i, append(ids, row.ID)
		}
	}
	rollouts, err := rolloutColumns.SelectIn(ctx, c, "FROM rollouts WHERE task_id", ids, "")
	if err != nil {
		return nil, fmt.Errorf("read rollouts: %w", err)
	}
	for _, r := range rollouts {
		tasks[at[r.taskID]].Rollout = &r.Rollout
	}
	return tasks, nil
}

// lockRollout reads and locks the rollout of a task that is locked. A second call
// returns the same row.
func lockRollout(ctx context.Context, cs *changeSet, task string) (*rolloutRow, error) {
	if row := cs.rollouts[task]; row != nil {
		return row, nil
	}
	rows, err := rolloutColumns.Select(ctx, &cs.Conn, "FROM rollouts WHERE task_id = ?"+cs.ForUpdate, task)
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock a rollout: %w", err)
	case len(rows) == 0:
		return nil, ErrNoRollout
	}
	cs.rollouts[task] = rows[0]
	return rows[0], nil
}

// derive sets the columns of the task and the rollout that follow from the rollout's state
// and the task's counts. It is called when they are written.
func (r *rolloutRow) derive(t *taskRow) {
	t.pacing, t.paused = rolloutActive, r.State == tasker.RolloutPaused
	switch {
	case r.State.Ended() && (t.Counts.Ended() == t.Counts.Total() || r.State == tasker.RolloutPlanned):
		t.pacing, r.exclusion, r.checkAt = rolloutEnded, noExclusion, 0
		if r.Rollback != "" {
			r.exclusion = heldExclusion // until it is undone, see findBlocker
		}
	case r.Wave > 0:
		r.exclusion = heldExclusion
	case r.State == tasker.RolloutWaiting:
		r.exclusion = waitingExclusion
	default:
		r.exclusion = noExclusion
	}
}

// writeRollouts writes the rollouts that a decision has changed. The rollouts of other
// tasks that have changed become due for a decision.
func writeRollouts(ctx context.Context, cs *changeSet) error {
	var due []string
	for _, id := range slices.Sorted(maps.Keys(cs.tasks)) {
		t, r := cs.tasks[id], cs.rollouts[id]
		switch {
		case r != nil && r.dirty:
			if err := writeRollout(ctx, &cs.Conn, r); err != nil {
				return err
			}
			cs.commit.Rollouts = cs.commit.Rollouts || r.checkAt == cs.Now
		case t.changed && t.pacing == rolloutActive:
			due = append(due, id)
			cs.commit.Rollouts = true
		}
	}
	for ids := range slices.Chunk(due, sqldb.MaxListed) {
		query := "UPDATE rollouts SET check_at = ? WHERE task_id IN (" + sqldb.Placeholders(len(ids)) + ")"
		if err := cs.Exec(ctx, query, append([]any{cs.Now}, sqldb.Args(ids)...)...); err != nil {
			return fmt.Errorf("schedule rollouts: %w", err)
		}
	}
	return nil
}

// writeRollout writes what has changed in a rollout.
func writeRollout(ctx context.Context, c *sqldb.Conn, r *rolloutRow) error {
	values, err := mutableRolloutColumns.Values(r)
	if err == nil {
		set := strings.Join(mutableRolloutColumns.Names(), " = ?, ") + " = ?"
		err = c.Exec(ctx, "UPDATE rollouts SET "+set+" WHERE task_id = ?", append(values, r.taskID)...)
	}
	if err != nil {
		return fmt.Errorf("write the rollout of task %s: %w", r.taskID, err)
	}
	return nil
}
