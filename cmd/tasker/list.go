package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// when is a time in a list.
func (a *app) when(t time.Time) string {
	if a.terminal() {
		return brief(t, time.Now())
	}
	return clock(t)
}

func (a *app) printTasks(l client.TaskPage) error {
	if a.json() {
		return a.printJSON(l)
	}
	var (
		id         = &column{head: "ID", rank: 4, spare: true}
		identifier = &column{head: "IDENTIFIER"}
		status     = &column{head: "STATUS"}
		created    = &column{head: "CREATED", rank: 3}
		responses  = &column{head: "RESPONSES", rank: 2, least: 12, wraps: true}
	)
	for _, t := range l.Tasks {
		id.add(t.ID)
		identifier.add(plain(t.Identifier))
		status.add(string(t.Status))
		created.add(a.when(t.CreatedAt))
		responses.add(counts(t.Counts))
	}
	lacking, err := a.printList([]*column{id, identifier, status, created, responses})
	if err != nil {
		return err
	}
	lacking = slices.DeleteFunc(lacking, func(head string) bool { return head == id.head }) // the identifier does as well
	if err := a.printLacking(lacking, "See one with tasker task get, all with -o json."); err != nil || l.Next == "" {
		return err
	}
	_, err = fmt.Fprintln(a.err, "There are more; see them with a higher --limit.")
	return written(err)
}

func (a *app) printEndpoints(list []tasker.Endpoint) error {
	if a.json() {
		return a.printJSON(map[string]any{"endpoints": list})
	}
	var (
		name      = &column{head: "ENDPOINT"}
		connected = &column{head: "CONNECTED", rank: 1}
		seen      = &column{head: "LAST SEEN", rank: 2}
		version   = &column{head: "VERSION", rank: 6}
		running   = &column{head: "RUNNING", rank: 3}
		waiting   = &column{head: "WAITING", rank: 4}
		types     = &column{head: "TYPES", rank: 7, least: 16, spare: true}
		labels    = &column{head: "LABELS", rank: 5, least: 16}
	)
	// What goes without saying is not said to a person.
	person := a.terminal()
	number := func(n int) string {
		if person && n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	for _, e := range list {
		last := a.when(e.LastSeen)
		if person && e.Connected {
			last = ""
		}
		name.add(plain(e.Name))
		connected.add(connection(e))
		seen.add(last)
		version.add(plain(e.Version))
		running.add(number(e.Running))
		waiting.add(number(e.Waiting))
		types.add(plain(strings.Join(e.Types, " ")))
		labels.add(plain(labelsOf(e)))
	}
	lacking, err := a.printList([]*column{name, connected, seen, version, running, waiting, types, labels})
	if err != nil {
		return err
	}
	return a.printLacking(lacking, "See one endpoint with tasker endpoints NAME, all with -o json.")
}

// printEndpoint shows one endpoint to a person in full, a line per fact, and elsewhere
// as in the list.
func (a *app) printEndpoint(e tasker.Endpoint) error {
	switch {
	case a.json():
		return a.printJSON(e)
	case !a.terminal():
		return a.printEndpoints([]tasker.Endpoint{e})
	}
	return a.printFacts(endpointLines(e))
}

// endpointLines is an endpoint, a line per fact.
func endpointLines(e tasker.Endpoint) string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return clock(*t)
	}
	var b strings.Builder
	for _, f := range [][2]string{
		{"endpoint", e.Name},
		{"connected", connection(e)},
		{"last seen", clock(e.LastSeen)},
		{"first seen", clock(e.FirstSeen)},
		{"enrolled", at(e.EnrolledAt)},
		{"revoked", at(e.RevokedAt)},
		{"version", e.Version},
		{"running", plural(e.Running, "task")},
		{"waiting", plural(e.Waiting, "task")},
		{"types", strings.Join(e.Types, " ")},
		{"labels", labelsOf(e)},
		{"metrics", e.Metrics},
	} {
		b.WriteString(fact(f[0], f[1]))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func connection(e tasker.Endpoint) string {
	switch {
	case e.RevokedAt != nil:
		return "revoked"
	case e.Connected:
		return "yes"
	}
	return "no"
}

func labelsOf(e tasker.Endpoint) string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		labels = append(labels, name+"="+e.Labels[name])
	}
	return strings.Join(labels, " ")
}
