package describe

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// Fact returns a line with a name and a value, and nothing for an empty value.
func Fact(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%-11s %s\n", name, terminal.OneLine(value))
}

// TaskFacts returns a task as one line per fact.
func TaskFacts(t tasker.Task) string {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(Fact(name, value)) }
	line("id", t.ID)
	line("identifier", t.Identifier)
	line("type", t.Type)
	line("status", string(t.Status))
	line("reason", t.Reason)
	switch t.Action {
	case tasker.DryRun:
		line("action", "dry run: nothing is changed")
	case tasker.Undo:
		line("action", "undoes task "+t.Undoes)
	}
	line("labels", t.Labels)
	if t.Broadcast() {
		line("endpoints", "all that serve the type")
	} else {
		line("endpoints", table.Names(t.Endpoints))
	}
	line("responses", Counts(t.Counts))
	if r := t.Rollout; r != nil {
		line("rollout", RolloutState(t))
		line("waves", waveSizes(*r))
		for _, p := range RolloutPolicy(r.RolloutSpec, t.Counts.Total()) {
			line(p[0], p[1])
		}
	}
	line("created", Time(t.CreatedAt))
	if t.NotBefore != nil {
		line("not before", Time(*t.NotBefore))
	}
	if t.FinishedAt != nil {
		line("finished", Time(*t.FinishedAt))
	}
	if t.CancelRequestedAt != nil {
		line("cancelled", Time(*t.CancelRequestedAt)+" by "+t.CancelRequestedBy)
	}
	if t.Callback != nil {
		line("callback", callbackTarget(*t.Callback))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Headline returns a task in one line.
func Headline(t tasker.Task) string {
	s := fmt.Sprintf("%s %s: %s", t.Type, terminal.OneLine(t.Identifier), t.Status)
	if c := Counts(t.Counts); c != "" {
		s += " (" + c + ")"
	}
	if t.Reason != "" {
		s += ": " + terminal.OneLine(t.Reason)
	}
	if open := OpenUntil(t); open != "" {
		s += ", " + open
	}
	if t.Rollout != nil && t.Rollout.State != tasker.RolloutFinished {
		s += ", rollout " + RolloutState(t)
	}
	return s
}

// OpenUntil returns how long a task for all endpoints accepts further endpoints, once all
// that received it are done; empty otherwise.
func OpenUntil(t tasker.Task) string {
	if !t.Broadcast() || t.FinishedAt != nil || t.CancelRequestedAt != nil || len(t.Counts) == 0 {
		return ""
	}
	for s, n := range t.Counts {
		if n > 0 && !s.Ended() {
			return ""
		}
	}
	return "open to other endpoints until " + t.ReceiveDeadline.Local().Format(time.TimeOnly)
}

// Counts returns the counts that are not zero, in the order of a response's life.
func Counts(c tasker.Counts) string {
	var parts []string
	for _, s := range tasker.ResponseStatuses() {
		if c[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[s], s))
		}
	}
	return strings.Join(parts, ", ")
}
