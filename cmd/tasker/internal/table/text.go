package table

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

const (
	// maxRows limits the rows of a text in a table. A longer text is cut to one row, and
	// shown in full below the table.
	maxRows = 3
	// MinTextWidth is the least width of a text in a table, on any terminal.
	MinTextWidth = 24
)

// FitText returns a text as a cell of at most room columns, and whether the cell has the
// complete text. A room of 0 means one line of any width.
func FitText(s string, room int) (cell string, complete bool) {
	lines := Lines(s)
	if room == 0 && len(lines) > 1 {
		return lines[0] + " …", false
	}
	var rows []string
	tooWide := false
	for _, line := range lines {
		for _, row := range Wrap(line, room) {
			rows = append(rows, row)
			tooWide = tooWide || room > 0 && text.StringWidthWithoutEscSequences(row) > room
		}
	}
	if tooWide || len(rows) > maxRows {
		return text.Snip(lines[0]+" …", room, "…"), false
	}
	return strings.Join(rows, "\n"), true
}

// Lines returns the lines of a text without control characters and without empty lines at
// its ends.
func Lines(s string) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		line = strings.TrimRight(terminal.OneLine(strings.ReplaceAll(line, "\t", "    ")), " ")
		if line != "" || len(lines) > 0 {
			lines = append(lines, line)
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Wrap breaks a line between words into rows with the indentation of the line. A word that
// is too rowWidth, such as a path or a URL, stays in one piece. A width of 0 breaks nothing.
func Wrap(line string, width int) []string {
	if width == 0 {
		return []string{line}
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	var rows []string
	row, rowWidth := "", 0
	for i, word := range strings.Split(line, " ") {
		n := text.StringWidthWithoutEscSequences(word)
		switch {
		case i == 0:
		case rowWidth+1+n > width && strings.TrimSpace(row) != "":
			rows = append(rows, strings.TrimRight(row, " "))
			row, rowWidth = indent, len(indent)
		default:
			row += " "
			rowWidth++
		}
		row += word
		rowWidth += n
	}
	return append(rows, row)
}
