package table

import (
	"slices"
	"strings"
)

// note is a text and the names that it belongs to.
type note struct {
	names []string
	text  string
}

// Notes are texts below a table, in the order in which they were added. Equal texts are
// one note.
type Notes []note

// Add adds the text of a row with this name.
func (n *Notes) Add(name, text string) {
	i := slices.IndexFunc(*n, func(known note) bool { return known.text == text })
	if i < 0 {
		i = len(*n)
		*n = append(*n, note{text: text})
	}
	(*n)[i].names = append((*n)[i].names, name)
}

// Render returns a block for each note. A width of 0 wraps no lines.
func (n Notes) Render(width int) string {
	const indent = "  "
	var b strings.Builder
	for _, note := range n {
		b.WriteString("\n" + strings.Join(Wrap(Names(note.names)+":", width), "\n") + "\n")
		for _, line := range Lines(note.text) {
			for _, row := range Wrap(line, max(width-len(indent), 0)) {
				b.WriteString(strings.TrimRight(indent+row, " ") + "\n")
			}
		}
	}
	return b.String()
}
