package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// column is one of a list.
type column struct {
	head  string
	cells []string
	// rank says which go first where not all have room: those with the highest. One
	// of rank 0 stays.
	rank int
	// least is how narrow it may be before another one goes; 0 is as wide as it is.
	least int
	// wraps: what is too wide for it goes on below, after a comma.
	wraps bool
	// spare: it goes before another one is cut. Those of the highest ranks may be.
	spare bool
}

func (c *column) add(cell string) { c.cells = append(c.cells, cell) }

func (c *column) width() int {
	widest := text.StringWidthWithoutEscSequences(c.head)
	for _, cell := range c.cells {
		widest = max(widest, text.StringWidthWithoutEscSequences(cell))
	}
	return widest
}

// need is the width without which it, or another one, goes.
func (c *column) need() int {
	if c.least == 0 {
		return c.width()
	}
	return min(c.least, c.width())
}

func (c *column) empty() bool { return len(c.cells) > 0 && strings.Join(c.cells, "") == "" }

// cut is the column with no cell wider than that, and whether all is still there.
func (c *column) cut(width int) (narrow *column, whole bool) {
	narrow, whole = &column{head: c.head}, true
	for _, cell := range c.cells {
		fits := text.StringWidthWithoutEscSequences(cell) <= width
		switch {
		case fits:
		case c.wraps:
			const together = "\u00a0" // no space to break at
			cell, fits = fit(strings.NewReplacer(", ", ", ", " ", together).Replace(cell), width)
			cell = strings.ReplaceAll(cell, together, " ")
		default:
			cell = text.Snip(cell, width, "…")
		}
		narrow.add(cell)
		whole = whole && fits
	}
	return narrow, whole
}

// squeeze makes a list as wide as a terminal, and names the columns of which not all
// is shown. One in which there is nothing is left out.
func squeeze(list []*column, width int) (shown []*column, lacking []string) {
	list = slices.DeleteFunc(slices.Clone(list), (*column).empty)
	widths := map[*column]int{}
	room, wish := width+1, 0 // there is no space after the last one
	for _, c := range list {
		widths[c] = c.need()
		room -= c.need() + 1
		if !c.spare {
			wish += c.width() - c.need()
		}
	}
	order := slices.SortedStableFunc(slices.Values(list), func(a, b *column) int { return a.rank - b.rank })
	for _, c := range slices.Backward(order) {
		enough := 0
		if c.spare {
			enough = wish
		}
		if c.rank == 0 || room >= enough {
			break
		}
		room += widths[c] + 1
		delete(widths, c)
	}
	for _, c := range order {
		now, found := widths[c]
		if !found {
			continue
		}
		more := min(c.width()-now, room)
		if room < 0 { // what stays is still too wide
			more = max(room, min(leastRoom, now)-now)
		}
		widths[c] += more
		room -= more
	}
	for _, c := range list {
		w, found := widths[c]
		if !found {
			lacking = append(lacking, c.head)
			continue
		}
		narrow, whole := c.cut(w)
		if !whole {
			lacking = append(lacking, c.head)
		}
		shown = append(shown, narrow)
	}
	return shown, lacking
}

// printList prints a list whole where no person looks at it, a line for each row. On
// a terminal it prints what there is room for, and names the columns of which that is
// not all.
func (a *app) printList(list []*column) (lacking []string, err error) {
	if width := a.width(); width > 0 {
		list, lacking = squeeze(list, width)
	}
	var header table.Row
	rows := make([]table.Row, len(list[0].cells))
	for _, c := range list {
		header = append(header, c.head)
		for i, cell := range c.cells {
			rows[i] = append(rows[i], cell)
		}
	}
	t := newTable(header...)
	t.AppendRows(rows)
	return lacking, a.printTable(t)
}

// printLacking says where to see what a list had no room for.
func (a *app) printLacking(lacking []string, where string) error {
	if len(lacking) == 0 {
		return nil
	}
	line := "Not shown in full: " + strings.Join(lacking, ", ") + ". " + where
	_, err := fmt.Fprintln(a.err, strings.Join(wrap(line, a.width()), "\n"))
	return written(err)
}

// brief is a time without what a person knows: of today without the day, of this year
// without the year.
func brief(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	switch {
	case t.IsZero():
		return ""
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format(time.TimeOnly)
	case t.Year() == now.Year():
		return t.Format("01-02 15:04")
	}
	return t.Format(time.DateOnly)
}
