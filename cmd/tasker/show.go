package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/client"
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
	fmt.Fprintln(a.out, taskLines(s.Task))
	if len(s.Responses) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	t := newTable("ENDPOINT", "STATUS", "ATTEMPT", "TOOK", "EXIT", "WHAT")
	for _, r := range s.Responses {
		exit := ""
		if r.ExitCode != nil {
			exit = fmt.Sprint(*r.ExitCode)
		}
		t.AppendRow(table.Row{plain(r.Endpoint), r.Status, r.Attempt, took(r), exit, plain(what(r))})
	}
	return a.printTable(t)
}

func (a *app) printTasks(l client.Tasks) error {
	if a.json() {
		return a.printJSON(l)
	}
	t := newTable("ID", "IDENTIFIER", "STATUS", "CREATED", "RESPONSES")
	for _, task := range l.Tasks {
		t.AppendRow(table.Row{task.ID, plain(task.Identifier), task.Status, clock(task.CreatedAt), counts(task.Counts)})
	}
	if err := a.printTable(t); err != nil || l.Next == "" {
		return err
	}
	_, err := fmt.Fprintln(a.err, "There are more; see them with a higher --limit.")
	return written(err)
}

func (a *app) printEndpoints(list []tasker.Endpoint) error {
	if a.json() {
		return a.printJSON(map[string]any{"endpoints": list})
	}
	t := newTable("ENDPOINT", "CONNECTED", "LAST SEEN", "VERSION", "RUNNING", "WAITING", "TYPES", "LABELS")
	for _, e := range list {
		connected := "no"
		switch {
		case e.RevokedAt != nil:
			connected = "revoked"
		case e.Connected:
			connected = "yes"
		}
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
			labels = append(labels, name+"="+e.Labels[name])
		}
		t.AppendRow(table.Row{
			plain(e.Name), connected, clock(e.LastSeen), plain(e.Version), e.Running, e.Waiting,
			plain(strings.Join(e.Types, " ")), plain(strings.Join(labels, " ")),
		})
	}
	return a.printTable(t)
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

// taskLines is a task, a line per fact.
func taskLines(t tasker.Task) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name, plain(value))
		}
	}
	line("id", t.ID)
	line("identifier", t.Identifier)
	line("type", t.Type)
	line("status", string(t.Status))
	line("reason", t.Reason)
	if t.Broadcast() {
		line("endpoints", "all that serve the type")
	} else {
		line("endpoints", strings.Join(t.Endpoints, " "))
	}
	line("responses", counts(t.Counts))
	line("created", clock(t.CreatedAt))
	if t.FinishedAt != nil {
		line("finished", clock(*t.FinishedAt))
	}
	if t.CancelRequestedAt != nil {
		line("cancelled", clock(*t.CancelRequestedAt)+" by "+t.CancelRequestedBy)
	}
	return strings.TrimSuffix(b.String(), "\n")
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
	for _, s := range []string{r.Reason, r.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 && r.Progress != nil {
		parts = append(parts, r.Progress.Message)
	}
	if r.Late {
		parts = append(parts, "(late)")
	}
	return strings.Join(parts, ": ")
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

// plain takes out what would let a text from elsewhere control the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}
