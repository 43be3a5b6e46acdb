package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// when returns a time for a list.
func (p *printer) when(t time.Time) string {
	if p.terminal() {
		return describe.ShortTime(t, time.Now())
	}
	return describe.Time(t)
}

func (p *printer) printTasks(l client.TaskPage) error {
	if p.json() {
		return p.printJSON(l)
	}
	var (
		id         = &table.Column{Head: "ID", Rank: 4, Optional: true}
		identifier = &table.Column{Head: "IDENTIFIER"}
		status     = &table.Column{Head: "STATUS"}
		created    = &table.Column{Head: "CREATED", Rank: 3}
		responses  = &table.Column{Head: "RESPONSES", Rank: 2, MinWidth: 12, Wraps: true}
	)
	for _, t := range l.Tasks {
		id.Add(t.ID)
		identifier.Add(terminal.OneLine(t.Identifier))
		status.Add(string(t.Status))
		created.Add(p.when(t.CreatedAt))
		responses.Add(describe.Counts(t.Counts))
	}
	incomplete, err := p.printList([]*table.Column{id, identifier, status, created, responses})
	if err != nil {
		return err
	}
	incomplete = slices.DeleteFunc(incomplete, func(head string) bool { return head == id.Head }) // the identifier suffices
	if err := p.printIncomplete(incomplete, "See one with tasker task get, all with -o json."); err != nil || l.Next == "" {
		return err
	}
	_, err = fmt.Fprintln(p.err, "There are more; see them with a higher --limit.")
	return written(err)
}

func (p *printer) printEndpoints(list []tasker.Endpoint) error {
	if p.json() {
		return p.printJSON(map[string]any{"endpoints": list})
	}
	var (
		name      = &table.Column{Head: "ENDPOINT"}
		connected = &table.Column{Head: "CONNECTED", Rank: 1}
		seen      = &table.Column{Head: "LAST SEEN", Rank: 2}
		version   = &table.Column{Head: "VERSION", Rank: 6}
		running   = &table.Column{Head: "RUNNING", Rank: 3}
		waiting   = &table.Column{Head: "WAITING", Rank: 4}
		types     = &table.Column{Head: "TYPES", Rank: 7, MinWidth: 16, Optional: true}
		labels    = &table.Column{Head: "LABELS", Rank: 5, MinWidth: 16}
		claims    = &table.Column{Head: "ONLY CLAIMED", Rank: 8, MinWidth: 16, Optional: true}
	)
	// A person needs no zeros, and no last contact of a connected endpoint.
	person := p.terminal()
	number := func(n int) string {
		if person && n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	for _, e := range list {
		last := p.when(e.LastSeen)
		if person && e.Connected {
			last = ""
		}
		name.Add(terminal.OneLine(e.Name))
		connected.Add(describe.Connection(e))
		seen.Add(last)
		version.Add(terminal.OneLine(e.Version))
		running.Add(number(e.Running))
		waiting.Add(number(e.Waiting))
		types.Add(terminal.OneLine(strings.Join(e.Types, " ")))
		labels.Add(terminal.OneLine(describe.LabelList(e.Labels)))
		claims.Add(terminal.OneLine(describe.MereClaims(e)))
	}
	columns := []*table.Column{name, connected, seen, version, running, waiting, types, labels}
	if slices.ContainsFunc(claims.Cells, func(cell string) bool { return cell != "" }) {
		columns = append(columns, claims)
	}
	incomplete, err := p.printList(columns)
	if err != nil {
		return err
	}
	return p.printIncomplete(incomplete, "See one endpoint with tasker endpoints NAME, all with -o json.")
}

// printEndpoint prints one endpoint: on a terminal one line per fact, elsewhere as in the
// list.
func (p *printer) printEndpoint(e tasker.Endpoint) error {
	switch {
	case p.json():
		return p.printJSON(e)
	case !p.terminal():
		return p.printEndpoints([]tasker.Endpoint{e})
	}
	return p.printFacts(describe.EndpointFacts(e))
}
