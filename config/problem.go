package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// Problem is one problem of a configuration file.
type Problem struct {
	File string
	// Line and Column count from 1; they are 0 if the problem concerns the whole file.
	Line, Column int
	// Key is the path of the key, as in "api.port"; empty for the whole file.
	Key string
	// Message describes the problem and its solution.
	Message string
}

// Error returns "FILE:LINE:COLUMN: KEY: MESSAGE".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	return b.String() + ": " + p.Message
}

// Problems is the error of an invalid configuration: all of its problems, in the order of
// the file.
type Problems []Problem

// Error returns one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// report collects the problems of one file.
type report struct {
	file string
	// positions are the positions of the values, or else of the keys, by their paths.
	positions map[string]token.Position
	problems  Problems
}

// add adds a problem of a key. A key that is not in the file gets the position of the
// section where it belongs. Only the first problem of a key is kept, and no problem of its
// parts or of its sections after it.
func (r *report) add(key, format string, args ...any) {
	for _, p := range r.problems {
		if p.Key == key || isWithin(p.Key, key) || isWithin(key, p.Key) {
			return
		}
	}
	for path := key; ; path = parent(path) {
		if pos, ok := r.positions[path]; ok {
			r.addAt(&pos, key, format, args...)
			return
		}
		if path == "" {
			r.addAt(nil, key, format, args...)
			return
		}
	}
}

// addAt adds a problem at a position.
func (r *report) addAt(pos *token.Position, key, format string, args ...any) {
	p := Problem{File: r.file, Key: key, Message: fmt.Sprintf(format, args...)}
	if pos != nil {
		p.Line, p.Column = pos.Line, pos.Column
	}
	r.problems = append(r.problems, p)
}

// isReadable reports whether the file could be parsed, so that its values can be checked.
func (r *report) isReadable() bool {
	return !slices.ContainsFunc(r.problems, func(p Problem) bool { return p.Key == "" })
}

// err returns all problems in the order of the file.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return r.problems
}

// parent returns a path without its last part.
func parent(key string) string {
	i := strings.LastIndexAny(key, ".[")
	if i < 0 {
		return ""
	}
	return key[:i]
}

// isWithin reports whether a key is part of a section or list.
func isWithin(section, key string) bool {
	return section != "" && (strings.HasPrefix(key, section+".") || strings.HasPrefix(key, section+"["))
}
