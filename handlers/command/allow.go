package command

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// anything in an entry stands for any one argument.
const anything = "*"

// AllowList are the argument vectors that may be run; see the package comment.
type AllowList [][]string

// NewAllowList checks the entries. The error names the one that is wrong.
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

// Match returns the argument vector to run, in which the program is the entry's, or
// a rejection that says which entry to add. argv is not empty.
func (l AllowList) Match(argv []string) ([]string, error) {
	for _, entry := range l {
		if len(entry) != len(argv) || argv[0] != entry[0] && argv[0] != filepath.Base(entry[0]) {
			continue
		}
		if slices.EqualFunc(entry[1:], argv[1:], func(e, a string) bool { return e == anything || e == a }) {
			return append([]string{entry[0]}, argv[1:]...), nil
		}
	}
	return nil, handlers.Reject("the agent does not allow this command: add %s to handlers.command.allow in its configuration (\"*\" stands for any one argument)", advice(argv))
}

// advice says what entry would allow argv.
func advice(argv []string) string {
	entry := slices.Clone(argv)
	if !filepath.IsAbs(entry[0]) {
		entry[0] = "/path/to/" + filepath.Base(entry[0])
	}
	for i, arg := range entry {
		if len(arg) > 100 {
			entry[i] = anything
		}
	}
	if len(entry) > 20 {
		return "an entry that fits"
	}
	b, err := json.Marshal(entry)
	if err != nil {
		return "an entry that fits"
	}
	return string(b)
}
