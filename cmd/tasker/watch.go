package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// changeFunc changes a task.
type changeFunc func(c *client.Client, ctx context.Context, taskType, ref string) (tasker.Task, error)

func watchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch TYPE REF",
		Short: "Show the progress of a task until it has finished",
		Long: `Show the progress of a task until it has finished: a line per endpoint on a
terminal, a line per change elsewhere, with -o json the whole state as one line per
change. REF is its id or identifier.

A rollout on a terminal is a bar per wave with what it is at, the endpoints that have
failed and those that take longest, each with the last line that it printed, and how
long it may still take, going by earlier tasks of the type. Keys: p pauses, r resumes,
c cancels (and asks first), q quits; the task goes on.

One that is rolled back is followed by the task that undoes it, but for -o json; the
exit code is that of the rollout.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: a.asking(func(c *client.Client, cmd *cobra.Command, args []string) error {
			return a.watch(cmd.Context(), c, tasker.Task{Type: args[0], ID: args[1]})
		}),
	}
	a.formatFlag(cmd)
	return cmd
}

// view shows a task while it runs.
type view interface {
	// show is called with each state.
	show(client.State)
	// end is called once, with the last state.
	end(client.State) error
}

// watch shows a task until it has finished, and what undoes it if it is rolled back;
// its error is the outcome of the task.
func (a *app) watch(ctx context.Context, c *client.Client, task tasker.Task) error {
	last, err := a.see(ctx, c, task)
	if err != nil {
		return err
	}
	if r := last.Task.Rollout; r != nil && r.Rollback != "" && !a.json() { // JSON is of one task
		if _, err := a.see(ctx, c, tasker.Task{Type: task.Type, ID: r.Rollback}); err != nil {
			return err
		}
	}
	return outcome(last.Task)
}

// see shows a task until it has finished, in the way that suits the format and
// whoever looks, and returns its last state.
func (a *app) see(ctx context.Context, c *client.Client, task tasker.Task) (client.State, error) {
	switch {
	case a.json():
		return follow(ctx, c, task, &jsonLines{a: a})
	case !a.terminal():
		return follow(ctx, c, task, newLines(a.out, time.Now))
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	d := &desk{client: c, in: a.in, quit: quit}
	defer d.restore() // panics included
	return follow(ctx, c, task, newLive(ctx, a.out, screenOf(a.out, a.env), d))
}

// follow shows a task until it has finished, and returns its last state.
func follow(ctx context.Context, c *client.Client, task tasker.Task, v view) (client.State, error) {
	var last client.State
	show := func(s client.State) {
		last = s
		v.show(s)
	}
	err := c.Watch(ctx, task.Type, task.ID, show)
	if err == nil {
		err = lastWord(ctx, c, last, show)
	}
	if endErr := v.end(last); err == nil {
		return last, endErr
	}
	if ctx.Err() != nil {
		err = &exitError{code: codeInterrupted, err: fmt.Errorf("the task goes on without you; see it with: tasker task watch %s %s", task.Type, task.ID)}
	}
	return last, err
}

// lastWord waits a little for what a rollout decides after its last response has
// ended: whether it is undone, and by which task.
func lastWord(ctx context.Context, c *client.Client, s client.State, show func(client.State)) error {
	const patience, pause = 5 * time.Second, 200 * time.Millisecond
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(pause)
	defer again.Stop()
	for s.Task.Rollout != nil && !s.Task.Rollout.State.Ended() {
		select {
		case <-again.C:
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
			return nil // it is retried already
		}
		if now.Task.Version != s.Task.Version {
			show(now)
		}
		s = now
	}
	return nil
}

// outcome is the exit code of a task; nil for one that succeeded or goes on.
func outcome(t tasker.Task) error {
	switch t.Status {
	case tasker.TaskFailed:
		return &exitError{code: codeFailed}
	case tasker.TaskIncomplete:
		return &exitError{code: codeIncomplete}
	case tasker.TaskCancelled:
		return &exitError{code: codeCancelled}
	default:
		return nil
	}
}

// jsonLines prints each state as one line of JSON.
type jsonLines struct {
	a    *app
	lost bool
	err  error
}

func (j *jsonLines) show(s client.State) {
	was := j.lost
	if j.lost = s.StreamErr != nil; !was && !j.lost { // else the state has not changed
		j.err = errors.Join(j.err, j.a.printJSONLine(s))
	}
}

func (j *jsonLines) end(client.State) error { return j.err }

// summary says nothing until the end.
type summary struct{ a *app }

func (*summary) show(client.State) {}

func (s *summary) end(last client.State) error {
	if last.Task.ID == "" {
		return nil
	}
	return s.a.printState(last)
}
