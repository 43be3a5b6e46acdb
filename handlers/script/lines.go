package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

const (
	progressPrefix = "::progress "
	resultPrefix   = "::result "
	// maxLine bounds what is held of a line that may be a directive; it fits the
	// largest result.
	maxLine = len(resultPrefix) + tasker.MaxResult + 1
)

// directives passes on a script's stdout and takes the directives out of it. A
// line that is none is passed on as it comes, however long it is and whether or
// not it ever ends. It is for one goroutine at a time.
type directives struct {
	out      io.Writer
	progress func(percent float64, message string)

	line    []byte // what is held of a line that may be a directive
	passing bool   // the line is none
	tooLong bool   // the line is one, and longer than maxLine

	result json.RawMessage
	err    error // what was wrong with the last result
}

// Write never fails but for out.
func (d *directives) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, ended := rest, false
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			part, ended = rest[:i+1], true
		}
		rest = rest[len(part):]
		if err := d.add(part); err != nil {
			return 0, err
		}
		if ended {
			if err := d.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// add takes a part of a line.
func (d *directives) add(part []byte) error {
	if d.passing {
		_, err := d.out.Write(part)
		return err
	}
	if d.tooLong || len(d.line)+len(part) > maxLine {
		d.tooLong = d.isDirective()
		if d.tooLong {
			return nil
		}
	}
	d.line = append(d.line, part...)
	if d.mayBeDirective() {
		return nil
	}
	d.passing = true
	_, err := d.out.Write(d.line)
	d.line = d.line[:0]
	return err
}

func (d *directives) isDirective() bool {
	return bytes.HasPrefix(d.line, []byte(progressPrefix)) || bytes.HasPrefix(d.line, []byte(resultPrefix))
}

// mayBeDirective says whether the beginning of the line is still open.
func (d *directives) mayBeDirective() bool {
	for _, p := range []string{progressPrefix, resultPrefix} {
		n := min(len(p), len(d.line))
		if string(d.line[:n]) == p[:n] {
			return true
		}
	}
	return false
}

// flush ends a line, also the last one, which may have no newline.
func (d *directives) flush() error {
	line, tooLong := strings.TrimRight(string(d.line), "\r\n"), d.tooLong
	held := d.line
	d.line, d.passing, d.tooLong = d.line[:0], false, false
	if rest, ok := strings.CutPrefix(line, resultPrefix); ok {
		d.result, d.err = nil, nil
		switch {
		case tooLong || len(rest) > tasker.MaxResult:
			d.err = fmt.Errorf("the line %s is longer than %d bytes", strings.TrimSpace(resultPrefix), tasker.MaxResult)
		case !json.Valid([]byte(rest)):
			d.err = fmt.Errorf("the line %s is not JSON: %s", strings.TrimSpace(resultPrefix), cut(rest))
		default:
			d.result = json.RawMessage(rest)
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(line, progressPrefix); ok {
		number, message, _ := strings.Cut(strings.TrimSpace(rest), " ")
		percent, err := strconv.ParseFloat(strings.TrimSuffix(number, "%"), 64)
		if err == nil && percent >= 0 && percent <= 100 {
			d.progress(percent, cut(strings.TrimSpace(message)))
			return nil
		}
	}
	if len(held) == 0 {
		return nil
	}
	_, err := d.out.Write(held)
	return err
}

// maxError bounds what of a line is shown in a message.
const maxError = 1000

// cut makes s fit to be shown in a message.
func cut(s string) string {
	if len(s) > maxError {
		s = s[:maxError] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
