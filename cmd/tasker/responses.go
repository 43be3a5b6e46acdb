package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

const (
	// mostRows are those of a text in the table on a terminal. A longer one is cut to
	// one, and told in full below the table.
	mostRows = 3
	// leastRoom is the width of a text in the table, however narrow the terminal.
	leastRoom = 24
)

// printResponses shows where each endpoint stands: on a terminal, as wide as that
// is, and elsewhere a line each, for programs that search it.
func (a *app) printResponses(s client.State) error {
	header := table.Row{"ENDPOINT", "STATUS", "ATTEMPT", "TOOK", "EXIT"}
	if s.Task.Rollout != nil {
		header = slices.Insert(header, 1, any("WAVE"))
		slices.SortStableFunc(s.Responses, func(a, b tasker.Response) int { return a.Wave - b.Wave })
	}
	rows := []table.Row{header}
	for _, r := range s.Responses {
		exit := ""
		if r.ExitCode != nil {
			exit = fmt.Sprint(*r.ExitCode)
		}
		row := table.Row{plain(r.Endpoint), r.Status, r.Attempt, took(r), exit}
		if s.Task.Rollout != nil {
			row = slices.Insert(row, 1, any(r.Wave))
		}
		rows = append(rows, row)
	}
	width, room := a.width(), 0
	if width > 0 {
		room = max(width-taken(rows), leastRoom)
	}
	t := newTable(append(header, "WHAT")...)
	var rest notes
	for i, r := range s.Responses {
		cell, whole := fit(what(r), room)
		if !whole {
			rest.add(plain(r.Endpoint), what(r))
		}
		t.AppendRow(append(rows[i+1], cell))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	_, err := fmt.Fprint(a.out, rest.render(width))
	return written(err)
}

// width is how wide lines may be: 0 is as wide as they like, where no person looks
// at them.
func (a *app) width() int {
	if !a.terminal() {
		return 0
	}
	width, _ := screenOf(a.out, a.env).size()
	return max(width-1, leastRoom) // some terminals wrap a full line
}

// taken is the width of the columns, with the space after each.
func taken(rows []table.Row) int {
	sum := 0
	for i := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, text.StringWidthWithoutEscSequences(fmt.Sprint(row[i])))
		}
		sum += widest + 1
	}
	return sum
}

// fit makes a text fit into the table, and says whether that is the whole of it.
// Room is how wide it may be; 0 is as wide as it likes, but one line.
func fit(s string, room int) (cell string, whole bool) {
	lines := linesOf(s)
	if room == 0 && len(lines) > 1 {
		return lines[0] + " …", false
	}
	var rows []string
	tooWide := false
	for _, line := range lines {
		for _, row := range wrap(line, room) {
			rows = append(rows, row)
			tooWide = tooWide || room > 0 && text.StringWidthWithoutEscSequences(row) > room
		}
	}
	if tooWide || len(rows) > mostRows {
		return text.Snip(lines[0]+" …", room, "…"), false
	}
	return strings.Join(rows, "\n"), true
}

// linesOf are the lines of a text from elsewhere, without empty ones at its ends.
func linesOf(s string) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		line = strings.TrimRight(plain(strings.ReplaceAll(line, "\t", "    ")), " ")
		if line != "" || len(lines) > 0 {
			lines = append(lines, line)
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// wrap breaks a line between words, into rows that begin as far in as the line. A
// word that is too wide, which may be a path or a URL to be copied, stays in one
// piece. Width 0 breaks nothing.
func wrap(line string, width int) []string {
	if width == 0 {
		return []string{line}
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	var rows []string
	row, wide := "", 0
	for i, word := range strings.Split(line, " ") {
		n := text.StringWidthWithoutEscSequences(word)
		switch {
		case i == 0:
		case wide+1+n > width && strings.TrimSpace(row) != "":
			rows = append(rows, strings.TrimRight(row, " "))
			row, wide = indent, len(indent)
		default:
			row += " "
			wide++
		}
		row += word
		wide += n
	}
	return append(rows, row)
}

// note is a text, and the endpoints whose it is.
type note struct {
	endpoints []string
	text      string
}

// notes are in the order in which they were added.
type notes []note

func (n *notes) add(endpoint, text string) {
	i := slices.IndexFunc(*n, func(known note) bool { return known.text == text })
	if i < 0 {
		i = len(*n)
		*n = append(*n, note{text: text})
	}
	(*n)[i].endpoints = append((*n)[i].endpoints, endpoint)
}

// render writes a block for each; width 0 breaks no lines.
func (n notes) render(width int) string {
	const indent = "  "
	var b strings.Builder
	for _, note := range n {
		b.WriteString("\n" + strings.Join(wrap(some(note.endpoints)+":", width), "\n") + "\n")
		for _, line := range linesOf(note.text) {
			for _, row := range wrap(line, max(width-len(indent), 0)) {
				b.WriteString(strings.TrimRight(indent+row, " ") + "\n")
			}
		}
	}
	return b.String()
}
