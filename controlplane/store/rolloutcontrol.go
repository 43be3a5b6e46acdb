package store

import (
	"context"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
)

// PauseTask keeps a rollout from beginning waves until it is resumed. A paused one
// stays as it is.
func (c *TaskController) PauseTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.changeRollout(ctx, "pause a rollout", taskType, ref, decision.Pause, by)
}

// ResumeTask continues a paused rollout where it was; the failures until now are
// accepted.
func (c *TaskController) ResumeTask(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	return c.changeRollout(ctx, "resume a rollout", taskType, ref, decision.Resume, by)
}

// changeRollout changes a rollout on request, and records a request that changed it.
func (c *TaskController) changeRollout(ctx context.Context, action, taskType, ref string, request decision.Request, by string) (tasker.Task, error) {
	return c.change(ctx, action, taskType, ref, func(cs *changeSet, t *taskRow) error {
		changed, err := applyRequest(ctx, cs, t, request, by)
		if err != nil || !changed {
			return err
		}
		return recordControl(ctx, cs, t, string(request), by)
	})
}

// applyRequest changes the rollout of a locked task on request. It reports whether the
// state has changed.
func applyRequest(ctx context.Context, cs *changeSet, t *taskRow, request decision.Request, by string) (changed bool, err error) {
	r, step, err := decideRequest(ctx, cs, t, request, by)
	if err != nil || !step.IsMove(r.Rollout) {
		return false, err
	}
	return true, applyStep(ctx, cs, t, r, step)
}

// decideRequest decides on a request for the rollout of a locked task.
func decideRequest(ctx context.Context, cs *changeSet, t *taskRow, request decision.Request, by string) (*rolloutRow, decision.Step, error) {
	r, err := lockRollout(ctx, cs, t.ID)
	if err != nil {
		return nil, decision.Step{}, err
	}
	in := decision.Input{Task: t.Task, Request: request, By: by, Now: cs.Now.Time()}
	in.Task.Rollout = &r.Rollout
	step, err := decision.Next(in)
	return r, step, err
}
