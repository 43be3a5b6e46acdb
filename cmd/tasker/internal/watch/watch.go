package watch

import (
	"context"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// View shows a task while it runs.
type View interface {
	// Show is called with each state.
	Show(client.State)
	// End is called once, with the last state.
	End(client.State) error
}

// Follow shows a task until it has finished, and returns its last state. An error of the
// view is returned only if the task could be followed to its end.
func Follow(ctx context.Context, c *client.Client, task tasker.Task, v View) (client.State, error) {
	var last client.State
	show := func(s client.State) {
		last = s
		v.Show(s)
	}
	err := c.Watch(ctx, task.Type, task.ID, show)
	if err == nil {
		err = awaitRolloutEnd(ctx, c, last, show)
	}
	if endErr := v.End(last); err == nil {
		return last, endErr
	}
	return last, err
}

// awaitRolloutEnd waits a few seconds for the decision of a rollout after its last
// response has ended: whether it is rolled back, and by which task.
func awaitRolloutEnd(ctx context.Context, c *client.Client, s client.State, show func(client.State)) error {
	const timeout, interval = 5 * time.Second, 200 * time.Millisecond
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(interval)
	defer poll.Stop()
	for s.Task.Rollout != nil && !s.Task.Rollout.State.Ended() {
		select {
		case <-poll.C:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := c.Get(ctx, s.Task.Type, s.Task.ID)
		if err != nil {
			return err
		}
		if now.Task.FinishedAt == nil {
			return nil // the task was retried
		}
		if now.Task.Version != s.Task.Version {
			show(now)
		}
		s = now
	}
	return nil
}
