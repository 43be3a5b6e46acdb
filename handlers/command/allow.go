package command

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// wildcard in an entry matches any one argument.
const wildcard = "*"

// Entry permits commands: an argument vector, and what a payload may set for it.
type Entry struct {
	// Argv begins with the path of the program. "*" matches any one argument.
	Argv []string `json:"argv"`
	// Env has the names of the variables that a payload may set.
	Env []string `json:"env,omitempty"`
	// Cwd and Creates have the paths that a payload may name, or patterns for path.Match.
	Cwd     []string `json:"cwd,omitempty"`
	Creates []string `json:"creates,omitempty"`
	// Stdin reports whether a payload may set the standard input.
	Stdin bool `json:"stdin,omitempty"`
}

// AllowList is a list of permitted commands; see the package comment.
type AllowList []Entry

// NewAllowList returns an error that names the first invalid entry.
func NewAllowList(entries []Entry) (AllowList, error) {
	for i, entry := range entries {
		argv := entry.Argv
		switch {
		case len(argv) == 0:
			return nil, fmt.Errorf("handlers.command: allow[%d] is empty: it begins with the absolute path of a program", i)
		case !isPlainPath(argv[0]) || argv[0] == "/":
			return nil, fmt.Errorf("handlers.command: allow[%d][0]: %q is not the plain absolute path of a program, without '.', '..' or double slashes", i, argv[0])
		}
		for _, pattern := range slices.Concat(entry.Cwd, entry.Creates) {
			if _, err := path.Match(pattern, ""); err != nil || !isPlainPath(pattern) {
				return nil, fmt.Errorf("handlers.command: allow[%d]: %q is not a plain absolute path or a pattern like \"/srv/*\"", i, pattern)
			}
		}
	}
	return entries, nil
}

// isPlainPath reports whether a path is absolute and has no other spelling.
func isPlainPath(p string) bool { return filepath.IsAbs(p) && filepath.Clean(p) == p }

// Match returns the argument vector to run, with the program's path from the entry. If no
// entry matches, it returns a rejection that names the entry to add. argv must not be empty.
func (l AllowList) Match(argv []string) ([]string, error) {
	return l.match(argv, Entry{})
}

// match is Match for a command for which a payload sets what use names.
func (l AllowList) match(argv []string, use Entry) ([]string, error) {
	var denied *Entry
	for _, entry := range l {
		if !entry.matches(argv) {
			continue
		}
		if entry.permits(use) {
			return append([]string{entry.Argv[0]}, argv[1:]...), nil
		}
		if denied == nil {
			denied = &entry
		}
	}
	if denied == nil {
		return nil, handlers.Reject("the agent does not allow this command: add %s to handlers.command.allow in its configuration (\"*\" matches any one argument)", suggestEntry(argv))
	}
	use.Argv = denied.Argv
	entry, err := json.Marshal(use)
	if err != nil {
		return nil, err
	}
	return nil, handlers.Reject("the agent allows the command %s, but not the payload's env, cwd, stdin or creates with it: if it is safe, write its entry in handlers.command.allow in the agent's configuration as %s", denied.Argv[0], entry)
}

func (e Entry) matches(argv []string) bool {
	return len(e.Argv) == len(argv) && (argv[0] == e.Argv[0] || argv[0] == filepath.Base(e.Argv[0])) &&
		slices.EqualFunc(e.Argv[1:], argv[1:], func(e, a string) bool { return e == wildcard || e == a })
}

// permits reports whether a payload may set what use names.
func (e Entry) permits(use Entry) bool {
	return (e.Stdin || !use.Stdin) &&
		!slices.ContainsFunc(use.Env, func(name string) bool { return !slices.Contains(e.Env, name) }) &&
		matchesAll(e.Cwd, use.Cwd) && matchesAll(e.Creates, use.Creates)
}

// matchesAll reports whether each path matches a pattern.
func matchesAll(patterns, paths []string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool {
		return !slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, p)
			return ok && err == nil
		})
	})
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
