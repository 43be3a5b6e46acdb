package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	prettytable "github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/watch"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// printer prints what commands show, in the chosen format.
type printer struct {
	out, err *os.File
	env      func(string) (string, bool)
	// format is the value of the flag --output: table or json.
	format string
}

func (p *printer) json() bool { return p.format == "json" }

// terminal reports whether the output is a terminal.
func (p *printer) terminal() bool { return term.IsTerminal(int(p.out.Fd())) } //nolint:gosec // a file descriptor is an int

func (p *printer) printJSON(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return written(enc.Encode(v))
}

func (p *printer) printJSONLine(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	return written(enc.Encode(v))
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// width is the width for lines on a terminal, and 0 elsewhere: lines have any width.
func (p *printer) width() int {
	if !p.terminal() {
		return 0
	}
	width, _ := watch.NewScreen(p.out, p.env).Size()
	return max(width-1, table.MinTextWidth) // some terminals wrap a full line
}

// printState prints a task and its responses.
func (p *printer) printState(s client.State) error {
	if p.json() {
		return p.printJSON(s)
	}
	facts := describe.TaskFacts(s.Task)
	line := func(name, value string) { facts += fmt.Sprintf("\n%-11s %s", name, terminal.OneLine(value)) }
	for _, d := range s.Callbacks {
		line("event", describe.Delivery(d))
	}
	for _, c := range s.Controls {
		if at := s.Task.CancelRequestedAt; c.Action == "cancel" && at != nil && at.Equal(c.At) {
			continue // the task has it, until a retry
		}
		line("requested", fmt.Sprintf("%s  %s by %s", describe.Time(c.At), c.Action, c.By))
	}
	if r := s.Task.Rollout; s.UndoneBy != "" && (r == nil || r.Rollback != s.UndoneBy) { // the rollout names its rollback
		line("undone by", s.UndoneBy)
	}
	if err := p.printFacts(facts); err != nil || len(s.Responses) == 0 {
		return err
	}
	fmt.Fprintln(p.out)
	return p.printResponses(s)
}

// printFacts prints one line per fact. On a terminal, a wide value continues below its
// beginning.
func (p *printer) printFacts(lines string) error {
	const name = len("identifier  ")
	width := p.width()
	for line := range strings.SplitSeq(lines, "\n") {
		if width > 0 && len(line) > name {
			rows := table.Wrap(line[name:], max(width-name, table.MinTextWidth))
			line = line[:name] + strings.Join(rows, "\n"+strings.Repeat(" ", name))
		}
		if _, err := fmt.Fprintln(p.out, line); err != nil {
			return written(err)
		}
	}
	return nil
}

// printResponses prints a table of the responses: on a terminal as wide as the terminal,
// and elsewhere with one line for each response.
func (p *printer) printResponses(s client.State) error {
	header := prettytable.Row{"ENDPOINT", "STATUS", "ATTEMPT", "TOOK", "EXIT"}
	if s.Task.Rollout != nil {
		header = slices.Insert(header, 1, any("WAVE"))
		slices.SortStableFunc(s.Responses, func(a, b tasker.Response) int { return a.Wave - b.Wave })
	}
	rows := []prettytable.Row{header}
	for _, r := range s.Responses {
		exit := ""
		if r.ExitCode != nil {
			exit = fmt.Sprint(*r.ExitCode)
		}
		row := prettytable.Row{terminal.OneLine(r.Endpoint), r.Status, r.Attempt, describe.RunTime(r), exit}
		if s.Task.Rollout != nil {
			row = slices.Insert(row, 1, any(r.Wave))
		}
		rows = append(rows, row)
	}
	width, room := p.width(), 0
	if width > 0 {
		room = max(width-table.Width(rows), table.MinTextWidth)
	}
	t := table.New(append(header, "DETAIL")...)
	var long table.Notes
	for i, r := range s.Responses {
		cell, complete := table.FitText(describe.Detail(r), room)
		if !complete {
			long.Add(terminal.OneLine(r.Endpoint), describe.Detail(r))
		}
		t.AppendRow(append(rows[i+1], cell))
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	_, err := fmt.Fprint(p.out, long.Render(width))
	return written(err)
}

func (p *printer) printTable(t prettytable.Writer) error {
	for line := range strings.Lines(t.Render() + "\n") {
		if _, err := io.WriteString(p.out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return written(err)
		}
	}
	return nil
}

// printList prints a list, one line per row. On a terminal it prints what fits, and
// returns the heads of the columns that are not complete.
func (p *printer) printList(list []*table.Column) (incomplete []string, err error) {
	if width := p.width(); width > 0 {
		list, incomplete = table.Fit(list, width)
	}
	var header prettytable.Row
	rows := make([]prettytable.Row, len(list[0].Cells))
	for _, c := range list {
		header = append(header, c.Head)
		for i, cell := range c.Cells {
			rows[i] = append(rows[i], cell)
		}
	}
	t := table.New(header...)
	t.AppendRows(rows)
	return incomplete, p.printTable(t)
}

// printIncomplete prints where to see the columns that did not fit.
func (p *printer) printIncomplete(columns []string, where string) error {
	if len(columns) == 0 {
		return nil
	}
	line := "Not shown in full: " + strings.Join(columns, ", ") + ". " + where
	_, err := fmt.Fprintln(p.err, strings.Join(table.Wrap(line, p.width()), "\n"))
	return written(err)
}
