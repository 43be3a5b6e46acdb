package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// The values of the column claims: a rollout's exclusion keeps other rollouts from its
// endpoints.
const (
	noExclusion      = 0
	waitingExclusion = 1 // it waits for others, and later rollouts wait for it
	heldExclusion    = 2
)

// findBlocker describes a rollout on one of this rollout's endpoints that keeps it
// waiting, because either of the two is exclusive. The other rollout runs, is being rolled
// back, or has waited longer. The description is empty if there is none.
func findBlocker(ctx context.Context, c *sqldb.Conn, r *rolloutRow) (string, error) {
	query := `SELECT t.type, t.identifier, o.endpoint, x.rollback_task FROM rollouts x` + c.UseIndex("rollouts_claiming") + c.StraightJoin + `tasks t` + c.StraightJoin +
		`responses o` + c.StraightJoin + `responses mine
		WHERE x.claims >= ? AND (x.claims = ? OR x.task_id < ?) AND x.task_id <> ? AND (x.exclusive = 1 OR 1 = ?)
		AND (x.rollback_task = '' OR EXISTS (SELECT 1 FROM tasks u WHERE u.id = x.rollback_task AND u.finished_at IS NULL))
		AND t.id = x.task_id AND o.task_id = x.task_id AND mine.task_id = ? AND mine.endpoint = o.endpoint LIMIT 1`
	exclusive := 0
	if r.Exclusive {
		exclusive = 1
	}
	var taskType, identifier, endpoint, undo string
	err := c.QueryRow(ctx, query, []any{waitingExclusion, heldExclusion, r.taskID, r.taskID, exclusive, r.taskID}, &taskType, &identifier, &endpoint, &undo)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read rollouts on the same endpoints: %w", err)
	case undo != "":
		return fmt.Sprintf("waits until the undo of %s %s has finished; both rollouts include %s", taskType, identifier, endpoint), nil
	}
	return fmt.Sprintf("waits for %s %s; both rollouts include %s", taskType, identifier, endpoint), nil
}
