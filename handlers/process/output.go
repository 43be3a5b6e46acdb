package process

import (
	"fmt"
	"io"
	"sync"
)

// Output copies what a command prints to one writer, and keeps the last lines to explain the
// command's error. Stdout and Stderr are the writers for a Spec.
type Output struct{ Stdout, Stderr *Tail }

// NewOutput returns an Output that writes to out and keeps the given number of lines of each
// stream. out need not be safe for concurrent use.
func NewOutput(out io.Writer, lines int) Output {
	shared := &lockedWriter{w: out}
	return Output{Stdout: &Tail{Out: shared, Lines: lines}, Stderr: &Tail{Out: shared, Lines: lines}}
}

// Explain adds the last lines of stderr to the error of a command. It adds the last lines of
// stdout only if nothing was printed to stderr: a command may print to stdout after its error.
func (o Output) Explain(err error) error {
	lines := o.Stderr.String()
	if lines == "" {
		lines = o.Stdout.String()
	}
	if err != nil && lines != "" {
		return fmt.Errorf("%w: %s", err, lines)
	}
	return err
}

// lockedWriter lets the goroutines that copy stdout and stderr share a writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes to the shared writer.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
