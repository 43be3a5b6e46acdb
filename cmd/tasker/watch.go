package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/client"
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

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return a.watch(cmd.Context(), c, tasker.Task{Type: args[0], ID: args[1]}, a.view())
		},
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

// view is the one that suits the format and whoever looks.
func (a *app) view() view {
	switch {
	case a.json():
		return &jsonLines{a: a}
	case a.terminal():
		return newLive(a.out, screenOf(a.out, a.env))
	default:
		return &lines{out: a.out, told: map[string]tasker.Response{}, now: time.Now}
	}
}

// watch shows a task until it has finished; its error is the outcome.
func (a *app) watch(ctx context.Context, c *client.Client, task tasker.Task, v view) error {
	var last client.State
	err := c.Watch(ctx, task.Type, task.ID, func(s client.State) {
		last = s
		v.show(s)
	})
	if endErr := v.end(last); err == nil && endErr != nil {
		return endErr
	}
	switch {
	case err == nil:
		return outcome(last.Task)
	case ctx.Err() != nil:
		return &exitError{code: codeInterrupted, err: fmt.Errorf("interrupted; the task goes on, see it with: tasker task watch %s %s", task.Type, task.ID)}
	default:
		return err
	}
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
	a   *app
	err error
}

func (j *jsonLines) show(s client.State) { j.err = errors.Join(j.err, j.a.printJSONLine(s)) }

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

// lines prints a line for each change worth a line, for logs.
type lines struct {
	out  io.Writer
	told map[string]tasker.Response
	now  func() time.Time
	// open: it was told that other endpoints are waited for.
	open bool
}

func (l *lines) show(s client.State) {
	for _, r := range s.Responses {
		if before, ok := l.told[r.Endpoint]; ok && !worthTelling(before, r) {
			continue
		}
		l.told[r.Endpoint] = r
		fmt.Fprintf(l.out, "%s  %s  %s\n", l.now().Format(time.TimeOnly), plain(r.Endpoint), describe(r))
	}
	if open := openUntil(s.Task); open != "" && !l.open {
		l.open = true
		fmt.Fprintf(l.out, "%s  %s\n", l.now().Format(time.TimeOnly), open)
	}
}

func (l *lines) end(last client.State) error {
	if last.Task.ID != "" {
		fmt.Fprintf(l.out, "%s  %s\n", l.now().Format(time.TimeOnly), headline(last.Task))
	}
	maps.DeleteFunc(l.told, func(string, tasker.Response) bool { return true })
	return nil
}

// worthTelling says whether a response changed in more than a few percent.
func worthTelling(before, after tasker.Response) bool {
	const step = 10
	if before.Status != after.Status || before.Attempt != after.Attempt || before.Reason != after.Reason {
		return true
	}
	if before.Progress == nil || after.Progress == nil {
		return before.Progress != after.Progress
	}
	return before.Progress.Message != after.Progress.Message || after.Progress.Percent-before.Progress.Percent >= step
}
