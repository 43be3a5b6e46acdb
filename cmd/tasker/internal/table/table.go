package table

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// New returns a table without borders, which programs such as cut and grep can process.
func New(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{MiddleVertical: " ", PaddingRight: " "}
	style.Options = table.OptionsNoBordersAndSeparators
	t.SetStyle(style)
	t.AppendHeader(header)
	return t
}

// Width returns the width of the columns, with one space after each.
func Width(rows []table.Row) int {
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
