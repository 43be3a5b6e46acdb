package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File string
	// Line and Column count from 1; they are 0 where the file as a whole is meant.
	Line, Column int
	// Key is the path of the key, as in "api.port"; empty for the whole file.
	Key string
	// Message says what is wrong and what to do.
	Message string
}

// Error is "FILE:LINE:COLUMN: KEY: MESSAGE".
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

// Problems is the error of a configuration that cannot be used: all that is
// wrong with it, in the order of the file.
type Problems []Problem

// Error has one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
