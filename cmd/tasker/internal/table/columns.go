package table

import (
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Column is one column of a list.
type Column struct {
	Head  string
	Cells []string
	// Rank orders the columns that are left out if the terminal is too narrow: those with
	// the highest rank first. A column of rank 0 is always shown.
	Rank int
	// least is how narrowed it may be before another one goes; 0 is as wide as it is.
	MinWidth int
	// Wraps reports whether wide cells continue on the next row, after a comma.
	Wraps bool
	// Optional reports whether the column is left out before another one is cut. Only the
	// columns of the highest ranks may be optional.
	Optional bool
}

// Add adds a cell.
func (c *Column) Add(cell string) { c.Cells = append(c.Cells, cell) }

func (c *Column) width() int {
	widest := text.StringWidthWithoutEscSequences(c.Head)
	for _, cell := range c.Cells {
		widest = max(widest, text.StringWidthWithoutEscSequences(cell))
	}
	return widest
}

// minWidth is the least width at which the column is shown.
func (c *Column) minWidth() int {
	if c.MinWidth == 0 {
		return c.width()
	}
	return min(c.MinWidth, c.width())
}

// isEmpty reports whether no cell has text.
func (c *Column) isEmpty() bool { return len(c.Cells) > 0 && strings.Join(c.Cells, "") == "" }

// cut returns the column with no cell wider than width, and whether all cells are complete.
func (c *Column) cut(width int) (narrowed *Column, complete bool) {
	narrowed, complete = &Column{Head: c.Head}, true
	for _, cell := range c.Cells {
		fits := text.StringWidthWithoutEscSequences(cell) <= width
		switch {
		case fits:
		case c.Wraps:
			const noBreakSpace = "\u00a0"
			cell, fits = FitText(strings.NewReplacer(", ", ", ", " ", noBreakSpace).Replace(cell), width)
			cell = strings.ReplaceAll(cell, noBreakSpace, " ")
		default:
			cell = text.Snip(cell, width, "…")
		}
		narrowed.Add(cell)
		complete = complete && fits
	}
	return narrowed, complete
}

// Fit makes a list as wide as a terminal. It returns the columns to show, and the heads of
// those that are cut or left out. Empty columns are left out.
func Fit(list []*Column, width int) (shown []*Column, incomplete []string) {
	list = slices.DeleteFunc(slices.Clone(list), (*Column).isEmpty)
	widths := map[*Column]int{}
	room, cutWidth := width+1, 0 // no space follows the last column
	for _, c := range list {
		widths[c] = c.minWidth()
		room -= c.minWidth() + 1
		if !c.Optional {
			cutWidth += c.width() - c.minWidth()
		}
	}
	order := slices.SortedStableFunc(slices.Values(list), func(a, b *Column) int { return a.Rank - b.Rank })
	for _, c := range slices.Backward(order) {
		required := 0
		if c.Optional {
			required = cutWidth
		}
		if c.Rank == 0 || room >= required {
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
		if room < 0 { // the remaining columns are still too wide
			more = max(room, min(MinTextWidth, now)-now)
		}
		widths[c] += more
		room -= more
	}
	for _, c := range list {
		w, found := widths[c]
		if !found {
			incomplete = append(incomplete, c.Head)
			continue
		}
		narrowed, complete := c.cut(w)
		if !complete {
			incomplete = append(incomplete, c.Head)
		}
		shown = append(shown, narrowed)
	}
	return shown, incomplete
}
