package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/watch"
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

On a terminal a rollout shows a bar and the state of each wave, the failed and the slow
endpoints with their last line of output, and an estimate of the remaining time from
earlier tasks of the type. Keys: p pauses, r resumes, c cancels after a confirmation,
q quits while the task continues.

If the task is rolled back, the undo task is shown next (not with -o json). The exit code
is that of the rollout.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			return a.watch(cmd.Context(), c, tasker.Task{Type: args[0], ID: args[1]})
		}),
	}
	a.formatFlag(cmd)
	return cmd
}

// watch shows a task until it has finished, and then its undo task if it was rolled back.
// Its error is the outcome of the task.
func (a *app) watch(ctx context.Context, c *client.Client, task tasker.Task) error {
	last, err := a.see(ctx, c, task)
	if err != nil {
		return err
	}
	if r := last.Task.Rollout; r != nil && r.Rollback != "" && !a.json() { // the JSON output has one task
		if _, err := a.see(ctx, c, tasker.Task{Type: task.Type, ID: r.Rollback}); err != nil {
			return err
		}
	}
	return outcome(last.Task)
}

// see shows a task until it has finished, in the view for the format and the terminal, and
// returns its last state.
func (a *app) see(ctx context.Context, c *client.Client, task tasker.Task) (client.State, error) {
	switch {
	case a.json():
		return follow(ctx, c, task, &jsonLines{a: a})
	case !a.terminal():
		return follow(ctx, c, task, watch.NewLines(a.out, time.Now))
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	controls := watch.NewControls(c, a.in, quit)
	defer controls.Restore() // also after a panic
	return follow(ctx, c, task, watch.NewLive(ctx, a.out, watch.NewScreen(a.out, a.env), controls))
}

// follow shows a task until it has finished. An interrupted watch has an exit code of its
// own.
func follow(ctx context.Context, c *client.Client, task tasker.Task, v watch.View) (client.State, error) {
	last, err := watch.Follow(ctx, c, task, v)
	if err != nil && ctx.Err() != nil {
		err = &exitError{code: codeInterrupted, err: fmt.Errorf("the task continues; see it with: tasker task watch %s %s", task.Type, task.ID)}
	}
	return last, err
}

// outcome returns the exit code of a task as an error; nil if it succeeded or continues.
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

func (j *jsonLines) Show(s client.State) {
	was := j.lost
	if j.lost = s.StreamErr != nil; !was && !j.lost { // otherwise the state is the same
		j.err = errors.Join(j.err, j.a.printJSONLine(s))
	}
}

func (j *jsonLines) End(client.State) error { return j.err }

// summary prints the state at the end.
type summary struct{ a *app }

func (*summary) Show(client.State) {}

func (s *summary) End(last client.State) error {
	if last.Task.ID == "" {
		return nil
	}
	return s.a.printState(last)
}
