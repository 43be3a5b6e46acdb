package command

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// wildcard in an entry matches any one argument.
const wildcard = "*"

// AllowList is a list of permitted argument vectors; see the package comment.
type AllowList [][]string

// NewAllowList returns an error that names the first invalid entry.
func NewAllowList(entries [][]string) (AllowList, error) {
	for i, entry := range entries {
		switch {
		case len(entry) == 0:
			return nil, fmt.Errorf("handlers.command: allow[%d] is empty: it begins with the absolute path of a program", i)
		case !filepath.IsAbs(entry[0]) || filepath.Clean(entry[0]) != entry[0] || entry[0] == "/":
			return nil, fmt.Errorf("handlers.command: allow[%d][0]: %q is not the plain absolute path of a program, without '.', '..' and double slashes", i, entry[0])
		}
	}
	return entries, nil
}

// Match returns the argument vector to run, with the program's path from the entry. If no
// entry matches, it returns a rejection that names the entry to add. argv must not be empty.
func (l AllowList) Match(argv []string) ([]string, error) {
	for _, entry := range l {
		if len(entry) != len(argv) || argv[0] != entry[0] && argv[0] != filepath.Base(entry[0]) {
			continue
		}
		if slices.EqualFunc(entry[1:], argv[1:], func(e, a string) bool { return e == wildcard || e == a }) {
			return append([]string{entry[0]}, argv[1:]...), nil
		}
	}
	return nil, handlers.Reject("the agent does not allow this command: add %s to handlers.command.allow in its configuration (\"*\" matches any one argument)", suggestEntry(argv))
}

// suggestEntry returns the entry that would permit argv.
func suggestEntry(argv []string) string {
	entry := slices.Clone(argv)
	if !filepath.IsAbs(entry[0]) {
		entry[0] = "/path/to/" + filepath.Base(entry[0])
	}
	for i, arg := range entry {
		if len(arg) > 100 {
			entry[i] = wildcard
		}
	}
	b, err := json.Marshal(entry)
	if err != nil || len(entry) > 20 {
		return "a matching entry"
	}
	return string(b)
}
