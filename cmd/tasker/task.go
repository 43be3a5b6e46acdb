package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/client"
)

func taskCommand(a *app) *cobra.Command {
	return group("task", "Create, show, watch, cancel and retry tasks",
		createCommand(a), getCommand(a), listCommand(a), watchCommand(a),
		changeCommand(a, "cancel", "Cancel a task", (*client.Client).Cancel),
		changeCommand(a, "retry", "Try again where a task did not succeed", (*client.Client).Retry),
		outputCommand(a),
	)
}

// createFlags are the flags of create.
type createFlags struct {
	identifier, payload     string
	endpoints               []string
	timeout, receiveTimeout string
	watch, wait             bool
}

func createCommand(a *app) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create TYPE",
		Short: "Create a task",
		Long: `Create a task and print it. The same identifier with the same request is the same
task, so a command that names its identifier can be repeated safely.

Without --endpoint it goes to every endpoint that serves the type. Who that is shows
when the receive timeout is over, so such a task does not finish before.

` + exitCodes,
		Example: `  tasker task create ping -e loadbalancer-1 --watch
  tasker task create update-app -e loadbalancer-1 -e loadbalancer-2 --payload '{"version": "2.4.1"}' --watch
  tasker task create command --payload @command.json --timeout 5m --wait -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.create(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.identifier, "identifier", "", "your own name for the task (default: a generated UUID)")
	flags.StringVar(&f.payload, "payload", "", "JSON, or @FILE, or - for the standard input (default: {})")
	flags.StringSliceVarP(&f.endpoints, "endpoint", "e", nil, "an endpoint, repeatable (default: every one that serves the type)")
	flags.StringVar(&f.timeout, "timeout", "", "bound the execution on each endpoint, like 10m")
	flags.StringVar(&f.receiveTimeout, "receive-timeout", "", "the time in which all endpoints should receive the task, like 30s")
	flags.BoolVar(&f.watch, "watch", false, "show the progress until the task has finished")
	flags.BoolVar(&f.wait, "wait", false, "wait until the task has finished, then show it")
	cmd.MarkFlagsMutuallyExclusive("watch", "wait")
	a.formatFlag(cmd)
	return cmd
}

func (a *app) create(cmd *cobra.Command, taskType string, f createFlags) error {
	r, err := f.request(a.in)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	task, err := c.Create(cmd.Context(), taskType, r)
	if err != nil {
		return err
	}
	switch {
	case f.watch:
		return a.watch(cmd.Context(), c, task, a.view())
	case f.wait:
		return a.watch(cmd.Context(), c, task, &summary{a})
	case a.json():
		return a.printJSON(task)
	}
	return a.printTask(task)
}

// request checks what can be checked without the control plane.
func (f createFlags) request(stdin io.Reader) (client.Request, error) {
	r := client.Request{Identifier: f.identifier, Endpoints: f.endpoints}
	if r.Identifier == "" {
		r.Identifier = uuid.NewString()
	}
	if f.payload != "" {
		payload, err := readPayload(f.payload, stdin)
		if err != nil {
			return r, err
		}
		r.Payload = payload
	}
	var err error
	if r.Timeout, err = optionalDuration("--timeout", f.timeout); err != nil {
		return r, err
	}
	r.ReceiveTimeout, err = optionalDuration("--receive-timeout", f.receiveTimeout)
	return r, err
}

func optionalDuration(flag, s string) (*tasker.Duration, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // none is left to the control plane
	}
	v, err := tasker.ParseDuration(s)
	if err != nil {
		return nil, usage("%s: %w", flag, err)
	}
	d := tasker.Duration(v)
	return &d, nil
}

// readPayload returns the JSON that the flag holds or names.
func readPayload(flag string, stdin io.Reader) (json.RawMessage, error) {
	content, source := []byte(flag), "the value"
	var err error
	switch file, isFile := strings.CutPrefix(flag, "@"); {
	case flag == "-":
		source = "the standard input"
		// One more than allowed: the control plane shall refuse it, not this cut.
		content, err = io.ReadAll(io.LimitReader(stdin, tasker.MaxPayload+1))
	case isFile:
		source = file
		content, err = os.ReadFile(file) //nolint:gosec // the user names the file
	}
	if err != nil {
		return nil, usage("--payload: %w", err)
	}
	if len(content) > tasker.MaxPayload {
		return nil, usage("--payload: %s has more than the %d bytes that are allowed", source, tasker.MaxPayload)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(content, new(json.RawMessage)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(content[:min(int(syntax.Offset), len(content))], []byte("\n"))
		return nil, usage("--payload: %s is no JSON: line %d: %w", source, line, err)
	}
	return content, nil
}

func getCommand(a *app) *cobra.Command {
	var exitStatus bool
	cmd := &cobra.Command{
		Use:   "get TYPE REF",
		Short: "Show a task and its responses",
		Long: `Show a task and what became of it on each endpoint. REF is its id or identifier.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			state, err := c.Get(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.printState(state); err != nil || !exitStatus {
				return err
			}
			return outcome(state.Task)
		},
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
		Args:  cobra.ExactArgs(1),
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
func listTasks(cmd *cobra.Command, c *client.Client, taskType, status string, limit int) (client.Tasks, error) {
	const page = 200
	all := client.Tasks{Tasks: []tasker.Task{}}
	for {
		q := client.Query{Status: status, Limit: min(page, limit-len(all.Tasks)), Cursor: all.Next}
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
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			task, err := change(c, cmd.Context(), args[0], args[1])
			switch {
			case err != nil:
				return err
			case watch:
				return a.watch(cmd.Context(), c, task, a.view())
			case a.json():
				return a.printJSON(task)
			}
			return a.printTask(task)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show the progress until the task has finished")
	a.formatFlag(cmd)
	return cmd
}

func outputCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "output TYPE REF ENDPOINT",
		Short: "Print what the handler printed on an endpoint",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Output(cmd.Context(), args[0], args[1], args[2], a.out)
		},
	}
}

// printTask shows a task alone.
func (a *app) printTask(t tasker.Task) error {
	if _, err := fmt.Fprintf(a.out, "%s\n", taskLines(t)); err != nil {
		return fmt.Errorf("print the task: %w", err)
	}
	return nil
}
