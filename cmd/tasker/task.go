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
	return group("task", "Create, show, watch and control tasks",
		createCommand(a), getCommand(a), listCommand(a), watchCommand(a),
		changeCommand(a, "cancel", "Cancel a task", (*client.Client).Cancel),
		changeCommand(a, "retry", "Try a task again on the endpoints that did not succeed", (*client.Client).Retry),
		changeCommand(a, "pause", "Pause a rollout: no further wave begins until it is resumed", (*client.Client).Pause),
		changeCommand(a, "resume", "Continue a paused rollout; the failures so far are accepted", (*client.Client).Resume),
		changeCommand(a, "undo", "Create a task that undoes an ended task, and show it", (*client.Client).Undo),
		outputCommand(a),
	)
}

func getCommand(a *app) *cobra.Command {
	var exitStatus bool
	cmd := &cobra.Command{
		Use:   "get TYPE REF",
		Short: "Show a task and its responses",
		Long: `Show a task and its outcome on each endpoint. REF is the id or the identifier of the
task. Texts that are too long for the table follow it in full.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
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
	cmd.Flags().BoolVar(&exitStatus, "exit-status", false, "exit with the code of the task's status; 0 if it has not finished")
	a.formatFlag(cmd)
	return cmd
}

func listCommand(a *app) *cobra.Command {
	var status string
	var limit int
	cmd := &cobra.Command{
		Use:   "list TYPE",
		Short: "List tasks, newest first",
		Long: `List tasks, newest first. On a terminal the list has the columns that fit; if the id is
left out, use the identifier. Otherwise every line is complete.`,
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
	var statuses []string
	for _, s := range tasker.TaskStatuses() {
		statuses = append(statuses, string(s))
	}
	cmd.Flags().StringVar(&status, "status", "", "only tasks with this status: "+strings.Join(statuses, ", "))
	cmd.Flags().IntVar(&limit, "limit", 50, "the highest number of tasks")
	a.formatFlag(cmd)
	return cmd
}

// listTasks reads pages until there are limit tasks.
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

// changeCommand returns a command that changes a task and prints it.
func changeCommand(a *app, verb, short string, change changeFunc) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   verb + " TYPE REF",
		Short: short,
		Long:  short + ". REF is the id or the identifier of the task.\n\n" + exitCodes,
		Args:  cobra.ExactArgs(2),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
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
			_, err = fmt.Fprintf(a.err, "tasker: this undo was requested before and has ended; to try it again on the endpoints that did not succeed: tasker task retry %s %s\n", task.Type, task.ID)
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
		Short: "Print the output of the handler on an endpoint",
		Long: `Print the output of the handler on an endpoint. On a terminal, colours are kept, other
control sequences are removed, and an overwritten line is printed as a line of its own.
Otherwise the output is printed unchanged.`,
		Args: cobra.ExactArgs(3),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			if !a.terminal() {
				return c.Output(cmd.Context(), args[0], args[1], args[2], a.out)
			}
			shown := &terminal.Writer{Out: a.out, Colours: watch.NewScreen(a.out, a.env).Colour}
			return errors.Join(c.Output(cmd.Context(), args[0], args[1], args[2], shown), shown.Close())
		}),
	}
}
