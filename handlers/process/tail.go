package process

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// maxLine is the length in bytes to which a kept line is cut.
const maxLine = 1000

// Tail copies the output of a command to Out and keeps the last lines that are not empty, to
// add them to the error of the command. Only one goroutine at a time may use it.
type Tail struct {
	Out io.Writer
	// Lines is the number of lines to keep. The default is 1.
	Lines int

	line []byte // the current, incomplete line
	last []string
}

// Write returns an error only if Out does.
func (t *Tail) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, ended := rest, false
		if i := bytes.IndexAny(rest, "\r\n"); i >= 0 {
			part, ended = rest[:i+1], true
		}
		rest = rest[len(part):]
		// One byte more than is kept shows that the line is too long.
		t.line = append(t.line, part[:min(len(part), maxLine+1-len(t.line))]...)
		if ended {
			t.endLine()
		}
	}
	return t.Out.Write(p)
}

func (t *Tail) endLine() {
	line := string(bytes.TrimRight(t.line, "\r\n"))
	t.line = t.line[:0]
	if len(line) > maxLine {
		n := maxLine
		for n > maxLine-utf8.UTFMax && !utf8.RuneStart(line[n]) {
			n--
		}
		line = line[:n] + "…"
	}
	if line = strings.TrimSpace(terminal.Strip(line)); line == "" {
		return
	}
	if t.last = append(t.last, line); len(t.last) > max(t.Lines, 1) {
		t.last = t.last[1:]
	}
}

// String returns the last lines, joined and without terminal control sequences. Nothing may
// be written after it.
func (t *Tail) String() string {
	t.endLine()
	return strings.Join(t.last, "; ")
}

// Explain adds the last lines to the error of a command, if there are any.
func (t *Tail) Explain(err error) error {
	if lines := t.String(); err != nil && lines != "" {
		return fmt.Errorf("%w: %s", err, lines)
	}
	return err
}
