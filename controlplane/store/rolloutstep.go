package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// applyStep changes the rows of a task and its rollout by a decision. A rollout whose
// state changed is due again at once.
func applyStep(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow, step decision.Step) error {
	r.dirty, r.checkAt = true, sqldb.MicrosOrNull(step.Again)
	if step.IsMove(r.Rollout) {
		r.checkAt = cs.Now
	}
	if step.IsMove(r.Rollout) || step.Reason != r.Reason || sqldb.MicrosOrNull(step.Until) != sqldb.MicrosOrNull(r.Until) {
		t.change()
	}
	r.State, r.Resume, r.Reason, r.Until = step.State, step.Resume, step.Reason, step.Until
	if step.Accept {
		r.Accepted = t.Counts.Failures()
	}
	switch {
	case step.Release:
		return releaseWave(ctx, cs, t, r)
	case step.Skip:
		return skipWaves(ctx, cs, t, r)
	case step.Restart:
		return restartWaves(ctx, cs, t, r)
	case step.Rollback:
		var err error
		if r.Rollback, _, err = createUndo(ctx, cs.tx, t); !errors.Is(err, ErrNothingToUndo) {
			return err
		}
	}
	return nil
}

// releaseWave begins the next wave, whose receive deadline runs from now.
func releaseWave(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
	r.Wave++
	t.ReceiveDeadline = cs.Now.Add(t.ReceiveTimeout.D()).Time()
	t.change()
	cs.commit.Due = true
	err := cs.Exec(ctx, "UPDATE responses SET next_send_at = ?, expires_at = ?, version = ? WHERE task_id = ? AND wave = ? AND status = ?",
		cs.Now, t.deadline(), t.Version, t.ID, r.Wave, string(tasker.Pending))
	if err != nil {
		return fmt.Errorf("begin a wave: %w", err)
	}
	return nil
}

// skipWaves ends the responses of waves that have not begun.
func skipWaves(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
	if err := cs.loadWhere(ctx, "task_id = ? AND wave > ? AND status = ?", t.ID, r.Wave, string(tasker.Pending)); err != nil {
		return err
	}
	for _, row := range cs.responses {
		if row.Wave > r.Wave && row.Status == tasker.Pending {
			cs.end(row, tasker.Skipped, r.Reason, false)
		}
	}
	return nil
}

// restartWaves makes waves of the endpoints that have not succeeded, in their order. The
// others are in no wave any more.
func restartWaves(ctx context.Context, cs *changeSet, t *taskRow, r *rolloutRow) error {
	names, err := cs.QueryStrings(ctx, "SELECT endpoint FROM responses WHERE task_id = ? AND status <> ? ORDER BY wave, endpoint", t.ID, string(tasker.Succeeded))
	if err != nil {
		return fmt.Errorf("read where the task did not succeed: %w", err)
	}
	r.Waves, r.Wave, r.Accepted, r.Rollback = r.WaveSizes(len(names)), 0, 0, ""
	err = cs.Exec(ctx, "UPDATE responses SET wave = 0, version = ? WHERE task_id = ? AND status = ?", t.Version, t.ID, string(tasker.Succeeded))
	if err != nil {
		return fmt.Errorf("number the waves: %w", err)
	}
	for i, size := range r.Waves {
		for part := range slices.Chunk(names[:size], sqldb.MaxListed) {
			err := cs.Exec(ctx, "UPDATE responses SET wave = ? WHERE task_id = ? AND endpoint IN ("+sqldb.Placeholders(len(part))+")",
				append([]any{i + 1, t.ID}, sqldb.Args(part)...)...)
			if err != nil {
				return fmt.Errorf("number the waves: %w", err)
			}
		}
		names = names[size:]
	}
	return nil
}
