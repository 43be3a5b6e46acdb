package process

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// maxLine bounds what is kept of a line, in bytes.
const maxLine = 1000

// Last passes on what a command prints, and keeps the last lines that are not empty,
// to say in an error what the command had to say. It is for one goroutine at a time.
type Tail struct {
	Out io.Writer
	// Lines is how many; zero is one.
	Lines int

	line  []byte
	whole []string
}

// Write never fails but for Out.
func (l *Tail) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, ended := rest, false
		if i := bytes.IndexAny(rest, "\r\n"); i >= 0 {
			part, ended = rest[:i+1], true
		}
		rest = rest[len(part):]
		// One byte more than is shown tells that there was more.
		l.line = append(l.line, part[:min(len(part), maxLine+1-len(l.line))]...)
		if ended {
			l.end()
		}
	}
	return l.Out.Write(p)
}

func (l *Tail) end() {
	line := string(bytes.TrimRight(l.line, "\r\n"))
	l.line = l.line[:0]
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
	if l.whole = append(l.whole, line); len(l.whole) > max(l.Lines, 1) {
		l.whole = l.whole[1:]
	}
}

// String is the lines, as one and without what could control a terminal; nothing may
// be written any more.
func (l *Tail) String() string {
	l.end()
	return strings.Join(l.whole, "; ")
}

// Explain adds the lines to the error of a command, if there are any.
func (l *Tail) Explain(err error) error {
	if said := l.String(); err != nil && said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}
