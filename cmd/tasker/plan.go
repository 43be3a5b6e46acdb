package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func rolloutCommand(a *app) *cobra.Command {
	return group("rollout", "See the waves of a task before it is created", planCommand(a))
}

func planCommand(a *app) *cobra.Command {
	var taskType string
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show the waves of a request, and create nothing",
		Long: `Show the waves in which the request in FILE would be performed now, the endpoints that are
not connected or do not serve its type, how many may fail, and what happens between the
waves. The control plane checks the request as if to create the task, and creates nothing.

FILE is the request in JSON or YAML, as for tasker task create --file FILE; - is the
standard input. The file contains the task type as type, or --type names it.

` + exitCodes,
		Example: `  tasker rollout plan update.yaml

  with update.yaml:
    type: update-app
    identifier: update-2.4.1
    payload: {version: 2.4.1}
    labels: role=web,zone!=b
    rollout: {canary: 1, batch: [10%, 50%], max_failures: 5%, pause_between: 1m}`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := readRequest(args[0], a.in)
			if err != nil {
				return err
			}
			name, err := q.taskType(taskType)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := c.Plan(cmd.Context(), name, q.body())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(p)
			}
			return a.printPlan(plan{p})
		},
	}
	cmd.Flags().StringVar(&taskType, "type", "", "the task type, if the file does not contain it")
	a.formatFlag(cmd)
	return cmd
}

// plan prints the waves of a request.
type plan struct{ tasker.WavePlan }

// total returns the number of endpoints.
func (p plan) total() (n int) {
	for _, wave := range p.Waves {
		n += len(wave)
	}
	return n
}

// printPlan prints the waves of a request, and the endpoints that would fail now.
func (p *printer) printPlan(shown plan) error {
	var b strings.Builder
	total := shown.total()
	line := func(name, value string) { fmt.Fprintf(&b, "%-13s %s\n", name, terminal.OneLine(value)) }
	switch {
	case shown.Broadcast:
		line(shown.Type, "all at once, on every endpoint that serves the type before the receive timeout ends; at present:")
	case shown.Rollout == nil:
		line(shown.Type, describe.Plural(total, "endpoint")+", all at once")
	default:
		line(shown.Type, fmt.Sprintf("%s in %s", describe.Plural(total, "endpoint"), describe.Plural(len(shown.Waves), "wave")))
	}
	shown.waves(line)
	if shown.Rollout != nil {
		for _, s := range describe.RolloutPolicy(*shown.Rollout, total) {
			line(s[0], s[1])
		}
	}
	if n := len(shown.NotConnected); n > 0 {
		line("not connected", fmt.Sprintf("%s of %d: %s", describe.Plural(n, "endpoint"), total, table.Names(shown.NotConnected)))
	}
	if n := len(shown.NotServing); n > 0 {
		line("do not serve", fmt.Sprintf("%s: %s of %d: %s", shown.Type, describe.Plural(n, "endpoint"), total, table.Names(shown.NotServing)))
	}
	if n := len(shown.NotConnected) + len(shown.NotServing); shown.Rollout != nil && n > shown.Rollout.MaxFailures.Of(total) {
		line("warning", "these endpoints fail unless this changes before their waves begin, and too many fail")
	}
	if shown.Task != "" {
		line("exists", "task "+shown.Task+" was created by the same request; creating it again changes nothing")
	}
	_, err := fmt.Fprint(p.out, b.String())
	return written(err)
}

// waves prints a line for each wave; if there are many, only the first and the last ones.
func (p plan) waves(line func(name, value string)) {
	const head, tail = 20, 3
	random := p.Rollout != nil && p.Rollout.Order == tasker.OrderRandom
	for i, names := range p.Waves {
		switch left := len(p.Waves) - i; {
		case i == head && left > tail+1:
			line("…", describe.Plural(left-tail, "more wave"))
			continue
		case i > head && left > tail && len(p.Waves)-head > tail+1:
			continue
		}
		name := fmt.Sprintf("wave %d", i+1)
		switch {
		case p.Rollout == nil:
			name = "at once"
		case i == 0 && p.Rollout.Canary.N > 0:
			name = "canary"
		}
		value := describe.Plural(len(names), "endpoint")
		if !random {
			value += ": " + table.Names(names)
		}
		line(name, value)
	}
	if random {
		var all []string
		for _, names := range p.Waves {
			all = append(all, names...)
		}
		line("random order", "chosen when the task is created, from: "+table.Names(all))
	}
}
