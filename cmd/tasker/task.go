package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/watch"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func taskCommand(a *app) *cobra.Command {
	return group("task", "Create, show, watch and steer tasks",
		createCommand(a), getCommand(a), listCommand(a), watchCommand(a),
		changeCommand(a, "cancel", "Cancel a task", (*client.Client).Cancel),
		changeCommand(a, "retry", "Try again where a task did not succeed", (*client.Client).Retry),
		changeCommand(a, "pause", "Have a rollout begin no further wave until it is resumed", (*client.Client).Pause),
		changeCommand(a, "resume", "Have a paused rollout go on; what has failed until now is accepted", (*client.Client).Resume),
		changeCommand(a, "undo", "Bring back what was there before a task that has ended, by a task of its own, and show that one", (*client.Client).Undo),
		outputCommand(a),
	)
}

func getCommand(a *app) *cobra.Command {
	var exitStatus bool
	cmd := &cobra.Command{
		Use:   "get TYPE REF",
		Short: "Show a task and its responses",
		Long: `Show a task and what became of it on each endpoint. REF is its id or identifier.
What is too long for the table is below it, in full.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: a.asking(func(c *client.Client, cmd *cobra.Command, args []string) error {
			state, err := c.Get(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.printState(state); err != nil || !exitStatus {
				return err
			}
			return outcome(state.Task)
		}),
	}
	cmd.Flags().BoolVar(&exitStatus, "exit-status", false, "exit by the task's status, with 0 for one that has not finished")
	a.formatFlag(cmd)
	return cmd
}

func listCommand(a *app) *cobra.Command {
	var status string
	var limit int
	cmd := &cobra.Command{
		Use:   "list TYPE",
		Short: "List tasks, newest first",
		Long: `List tasks, newest first. On a terminal the list has what there is room for; without
the id, a task goes by its identifier. Anywhere else each line is whole.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usage("--limit %d: at least 1", limit)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := listTasks(cmd, c, args[0], status, limit)
			if err != nil {
				return err
			}
			return a.printTasks(list)
		},
	}
	var words []string
	for _, s := range tasker.TaskStatuses() {
		words = append(words, string(s))
	}
	cmd.Flags().StringVar(&status, "status", "", "only these: "+strings.Join(words, ", "))
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many")
	a.formatFlag(cmd)
	return cmd
}

// listTasks reads as many pages as it takes.
func listTasks(cmd *cobra.Command, c *client.Client, taskType, status string, limit int) (client.TaskPage, error) {
	const page = 200
	all := client.TaskPage{Tasks: []tasker.Task{}}
	for {
		q := client.ListOptions{Status: status, Limit: min(page, limit-len(all.Tasks)), Cursor: all.Next}
		more, err := c.List(cmd.Context(), taskType, q)
		if err != nil {
			return all, err
		}
		all.Tasks, all.Next = append(all.Tasks, more.Tasks...), more.Next
		if all.Next == "" || len(more.Tasks) == 0 || len(all.Tasks) >= limit {
			return all, nil
		}
	}
}

// changeCommand is a command that changes a task and prints it.
func changeCommand(a *app, verb, short string, change changeFunc) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   verb + " TYPE REF",
		Short: short,
		Long:  short + ". REF is its id or identifier.\n\n" + exitCodes,
		Args:  cobra.ExactArgs(2),
		RunE: a.asking(func(c *client.Client, cmd *cobra.Command, args []string) error {
			task, err := change(c, cmd.Context(), args[0], args[1])
			switch {
			case err != nil:
				return err
			case watch:
				return a.watch(cmd.Context(), c, task)
			case a.json():
				return a.printJSON(task)
			}
			if err := a.printFacts(describe.TaskFacts(task)); err != nil || verb != "undo" || outcome(task) == nil {
				return err
			}
			_, err = fmt.Fprintf(a.err, "tasker: this undo was asked for before, and has ended; where it did not succeed it is tried again with: tasker task retry %s %s\n", task.Type, task.ID)
			return written(err)
		}),
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show the progress until the task has finished")
	a.formatFlag(cmd)
	return cmd
}

func outputCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "output TYPE REF ENDPOINT",
		Short: "Print what the handler printed on an endpoint",
		Long: `Print what the handler printed on an endpoint. On a terminal its colours are shown,
and what else would control the terminal is left out; a line that was written over
is a line of its own. Anywhere else it is byte for byte what was printed.`,
		Args: cobra.ExactArgs(3),
		RunE: a.asking(func(c *client.Client, cmd *cobra.Command, args []string) error {
			if !a.terminal() {
				return c.Output(cmd.Context(), args[0], args[1], args[2], a.out)
			}
			shown := &terminal.Writer{Out: a.out, Colours: watch.NewScreen(a.out, a.env).Colour}
			return errors.Join(c.Output(cmd.Context(), args[0], args[1], args[2], shown), shown.Close())
		}),
	}
}
