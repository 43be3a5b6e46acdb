package terminal

import "strings"

// OneLine returns a text as one line without control characters and sequences.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if Controls(r) {
			return ' '
		}
		return r
	}, Strip(s))
}
