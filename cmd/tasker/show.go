package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return written(enc.Encode(v))
}

func (a *app) printJSONLine(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return written(enc.Encode(v))
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printState shows a task and its responses.
func (a *app) printState(s client.State) error {
	if a.json() {
		return a.printJSON(s)
	}
	facts := taskLines(s.Task)
	line := func(name, value string) { facts += fmt.Sprintf("\n%-11s %s", name, plain(value)) }
	for _, d := range s.Callbacks {
		line("event", delivery(d))
	}
	for _, c := range s.Controls {
		if at := s.Task.CancelRequestedAt; c.Action == "cancel" && at != nil && at.Equal(c.At) {
			continue // the task says so itself, until it is retried
		}
		line("asked", fmt.Sprintf("%s  %s by %s", clock(c.At), c.Action, c.By))
	}
	if r := s.Task.Rollout; s.UndoneBy != "" && (r == nil || r.Rollback != s.UndoneBy) { // of a rollback its rollout says so
		line("undone by", s.UndoneBy)
	}
	if err := a.printFacts(facts); err != nil || len(s.Responses) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	return a.printResponses(s)
}

// printFacts prints a line per fact; on a terminal one that is wider than it goes on
// below its own beginning.
func (a *app) printFacts(lines string) error {
	const name = len("identifier  ")
	width := a.width()
	for line := range strings.SplitSeq(lines, "\n") {
		if width > 0 && len(line) > name {
			rows := wrap(line[name:], max(width-name, leastRoom))
			line = line[:name] + strings.Join(rows, "\n"+strings.Repeat(" ", name))
		}
		if _, err := fmt.Fprintln(a.out, line); err != nil {
			return written(err)
		}
	}
	return nil
}

// newTable has no lines, so that it can be cut and searched.
func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{MiddleVertical: " ", PaddingRight: " "}
	style.Options = table.OptionsNoBordersAndSeparators
	t.SetStyle(style)
	t.AppendHeader(header)
	return t
}

func (a *app) printTable(t table.Writer) error {
	for line := range strings.Lines(t.Render() + "\n") {
		if _, err := io.WriteString(a.out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return written(err)
		}
	}
	return nil
}

// fact is a line with a name; nothing for an empty value.
func fact(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%-11s %s\n", name, plain(value))
}

// taskLines is a task, a line per fact.
func taskLines(t tasker.Task) string {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(fact(name, value)) }
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
		line("endpoints", some(t.Endpoints))
	}
	line("responses", counts(t.Counts))
	if r := t.Rollout; r != nil {
		line("rollout", standing(t))
		line("waves", wavesOf(*r))
		for _, p := range policy(r.RolloutSpec, t.Counts.Total()) {
			line(p[0], p[1])
		}
	}
	line("created", clock(t.CreatedAt))
	if t.NotBefore != nil {
		line("not before", clock(*t.NotBefore))
	}
	if t.FinishedAt != nil {
		line("finished", clock(*t.FinishedAt))
	}
	if t.CancelRequestedAt != nil {
		line("cancelled", clock(*t.CancelRequestedAt)+" by "+t.CancelRequestedBy)
	}
	if t.Callback != nil {
		line("callback", told(*t.Callback))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wavesOf are the sizes of the waves, the same ones in a row together.
func wavesOf(r tasker.Rollout) string {
	var parts []string
	for i := 0; i < len(r.Waves); {
		n := 1
		for i+n < len(r.Waves) && r.Waves[i+n] == r.Waves[i] {
			n++
		}
		part := fmt.Sprint(r.Waves[i])
		if n > 1 {
			part = fmt.Sprintf("%d × %d", n, r.Waves[i])
		}
		parts, i = append(parts, part), i+n
	}
	sizes := strings.Join(parts, ", ")
	if r.State == tasker.RolloutPlanned {
		return sizes // none of them begins
	}
	return fmt.Sprintf("%s; %d of %d have begun", sizes, r.Wave, len(r.Waves))
}

// headline is a task in one line.
func headline(t tasker.Task) string {
	s := fmt.Sprintf("%s %s: %s", t.Type, plain(t.Identifier), t.Status)
	if c := counts(t.Counts); c != "" {
		s += " (" + c + ")"
	}
	if t.Reason != "" {
		s += ": " + plain(t.Reason)
	}
	if open := openUntil(t); open != "" {
		s += ", " + open
	}
	if t.Rollout != nil && t.Rollout.State != tasker.RolloutFinished {
		s += ", rollout " + standing(t)
	}
	return s
}

// openUntil says what a task to everyone still waits for when all who have
// received it are done; empty otherwise.
func openUntil(t tasker.Task) string {
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

// counts are the numbers that are not zero, in the order of a response's life.
func counts(c tasker.Counts) string {
	var parts []string
	for _, s := range tasker.ResponseStatuses() {
		if c[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// describe is a response in one line, without its endpoint.
func describe(r tasker.Response) string {
	parts := []string{string(r.Status)}
	if r.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", r.Attempt))
	}
	if r.Progress != nil && !r.Status.Ended() {
		parts = append(parts, fmt.Sprintf("%.0f%%", r.Progress.Percent))
	}
	if r.Status.Ended() {
		if d := took(r); d != "" {
			parts = append(parts, "after "+d)
		}
	}
	if w := what(r); w != "" {
		parts = append(parts, plain(w))
	}
	return strings.Join(parts, "  ")
}

// what says why a response is where it is.
func what(r tasker.Response) string {
	var parts []string
	if at := r.SilentSince; at != nil {
		parts = append(parts, "not connected since "+clock(*at))
	}
	for _, s := range []string{r.Reason, r.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if s := noted(r.Result); len(parts) == 0 && s != "" {
		parts = append(parts, s)
	}
	if len(parts) == 0 && r.Progress != nil {
		parts = append(parts, r.Progress.Message)
	}
	if r.Late {
		parts = append(parts, "(late)")
	}
	return strings.Join(parts, ": ")
}

// noted is what a result says for people: its note, or what a dry run would do.
func noted(result json.RawMessage) string {
	var r struct {
		Changed bool
		Plan    bool
		Note    string
		Would   []string
	}
	switch err := json.Unmarshal(result, &r); {
	case err != nil: // a script may return whatever it likes
		return ""
	case r.Note != "" || !r.Plan:
		return r.Note
	case len(r.Would) > 0:
		return "would " + strings.Join(r.Would, "; ")
	case r.Changed:
		return "would change something; -o json shows what"
	}
	return "would change nothing"
}

// took is how long a handler ran.
func took(r tasker.Response) string {
	if r.StartedAt == nil || r.FinishedAt == nil {
		return ""
	}
	switch d := r.FinishedAt.Sub(*r.StartedAt); {
	case d < time.Millisecond:
		return "<1ms"
	case d < 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// plain is a text from elsewhere in one line, without what would let it control the
// terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if terminal.Controls(r) {
			return ' '
		}
		return r
	}, terminal.Strip(s))
}
