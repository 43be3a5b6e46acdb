package table

import "strings"

// Names returns the names in one line. Of more than eight it returns the first ones and
// the last, in about half a line of 80 columns.
func Names(names []string) string {
	const most, columns = 8, 48
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	last := " … " + names[len(names)-1]
	first := names[0]
	for _, name := range names[1 : most-2] {
		if len(first)+1+len(name)+len(last) > columns {
			break
		}
		first += " " + name
	}
	return first + last
}
