package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
)

func rolloutCommand(a *app) *cobra.Command {
	return group("rollout", "See the waves of a task before it is created", planCommand(a))
}

func planCommand(a *app) *cobra.Command {
	var taskType string
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show the waves of a request, and send nothing",
		Long: `Show in which waves the request in FILE would be performed if it was sent now, which
endpoints are not connected or do not serve its type, how many may fail, and what
happens between the waves. Nothing is sent but the question which endpoints there are.

FILE is the request, in JSON or YAML, as POST /TYPE takes it and as in
tasker task create --file FILE; - is the standard input. The task type is in it as
type, or is named by --type.

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
			p := plan{}
			if p.Type, err = q.taskType(taskType); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			known, err := c.Endpoints(cmd.Context())
			if err != nil {
				return err
			}
			if err := p.make(q, known); err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(p)
			}
			return a.printPlan(p)
		},
	}
	cmd.Flags().StringVar(&taskType, "type", "", "the task type, where the file does not name it")
	a.formatFlag(cmd)
	return cmd
}

// plan is what would become of a request now.
type plan struct {
	Type string `json:"type"`
	// Rollout is what was asked for; nil is all at once.
	Rollout *tasker.RolloutSpec `json:"rollout"`
	// Waves are the endpoints in their waves. With the order random they are only as
	// many as they will be.
	Waves [][]string `json:"waves"`
	// Broadcast: it goes to whoever serves the type while it is open.
	Broadcast bool `json:"broadcast,omitempty"`
	// NotConnected and NotServing are of the endpoints above; the latter could be
	// reached, but would reject the task.
	NotConnected []string `json:"not_connected"`
	NotServing   []string `json:"not_serving"`

	total int
}

// make resolves the endpoints as the control plane does.
func (p *plan) make(q request, known []tasker.Endpoint) error {
	if err := q.known(); err != nil {
		return err
	}
	err := q.identifier()
	if err != nil {
		return err
	}
	if p.Rollout, err = q.rollout(); err != nil {
		return err
	}
	names, selector, err := q.targets()
	if err != nil {
		return err
	}
	target := tasker.Target{Type: p.Type, Endpoints: names, Labels: selector, Rollout: p.Rollout != nil}
	p.Broadcast = target.Broadcast()
	byName := map[string]tasker.Endpoint{}
	var selected []string
	for _, e := range known {
		byName[e.Name] = e
		if target.Selects(e) {
			selected = append(selected, e.Name)
		}
	}
	names = target.Join(selected)
	switch {
	case len(names) > 0 || p.Broadcast:
	case selector == nil:
		return usage("no endpoint that is known serves %s; tasker endpoints shows which types each serves", p.Type)
	default:
		return usage("the request selects no endpoint that is known; tasker endpoints shows them with their labels")
	}
	p.total = len(names)
	sizes := []int{len(names)}
	if p.Rollout != nil {
		sizes = p.Rollout.Sizes(len(names))
		p.Rollout.Order.Arrange(names, func(int, func(i, j int)) {}) // what is drawn by lot cannot be foreseen
	}
	p.NotConnected, p.NotServing = []string{}, []string{}
	for _, name := range names {
		switch e := byName[name]; {
		case !e.Connected || e.RevokedAt != nil:
			p.NotConnected = append(p.NotConnected, name)
		case !slices.Contains(e.Types, p.Type):
			p.NotServing = append(p.NotServing, name)
		}
	}
	for _, size := range sizes {
		p.Waves, names = append(p.Waves, names[:size]), names[size:]
	}
	return nil
}

func (a *app) printPlan(p plan) error {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-13s %s\n", name, plain(value)) }
	switch {
	case p.Broadcast:
		line(p.Type, "all at once, to whoever serves it before the receive timeout is over; as of now:")
	case p.Rollout == nil:
		line(p.Type, plural(p.total, "endpoint")+", all at once")
	default:
		line(p.Type, fmt.Sprintf("%s in %s", plural(p.total, "endpoint"), plural(len(p.Waves), "wave")))
	}
	p.waves(line)
	if p.Rollout != nil {
		for _, s := range policy(*p.Rollout, p.total) {
			line(s[0], s[1])
		}
	}
	if n := len(p.NotConnected); n > 0 {
		line("not connected", fmt.Sprintf("%s of %d: %s", plural(n, "endpoint"), p.total, some(p.NotConnected)))
	}
	if n := len(p.NotServing); n > 0 {
		line("do not serve", fmt.Sprintf("%s: %s of %d: %s", p.Type, plural(n, "endpoint"), p.total, some(p.NotServing)))
	}
	if n := len(p.NotConnected) + len(p.NotServing); p.Rollout != nil && n > p.Rollout.MaxFailures.Of(p.total) {
		line("beware", "if that is still so when their waves begin, more fail than may")
	}
	_, err := fmt.Fprint(a.out, b.String())
	return written(err)
}

// waves writes a line per wave; of many, the first and the last ones.
func (p plan) waves(line func(name, value string)) {
	const head, tail = 20, 3
	random := p.Rollout != nil && p.Rollout.Order == tasker.OrderRandom
	for i, names := range p.Waves {
		switch left := len(p.Waves) - i; {
		case i == head && left > tail+1:
			line("…", plural(left-tail, "more wave"))
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
		value := plural(len(names), "endpoint")
		if !random {
			value += ": " + some(names)
		}
		line(name, value)
	}
	if random {
		var all []string
		for _, names := range p.Waves {
			all = append(all, names...)
		}
		line("drawn by lot", "when the task is created, of: "+some(all))
	}
}

// some are the names, or of many the first ones and the last, in about half a line
// of 80 columns.
func some(names []string) string {
	const most, columns = 8, 48
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	last := " … " + names[len(names)-1]
	first := names[0]
	for _, name := range names[1 : most-2] {
		if len(first)+1+len(name)+len(last) > columns {
			break
		}
		first += " " + name
	}
	return first + last
}
