package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

const (
	progressPrefix = "::progress "
	resultPrefix   = "::result "
	// maxLine is the number of bytes that are buffered of a directive. It fits the largest
	// result.
	maxLine = len(resultPrefix) + tasker.MaxResult + 1
)

// directiveParser is a writer for a script's stdout. It interprets the directives and copies
// all other output to out at once: it buffers a line only as long as the line may be a
// directive. Only one goroutine at a time may use it.
type directiveParser struct {
	out      io.Writer
	progress func(percent float64, message string)

	line    []byte // the buffered beginning of the current line
	copying bool   // the current line is not a directive
	tooLong bool   // the current line is a directive longer than maxLine

	result json.RawMessage
	err    error // the error of the last result
}

// Write returns an error only if out does.
func (d *directiveParser) Write(p []byte) (int, error) {
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
			if err := d.endLine(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// add adds a part of a line.
func (d *directiveParser) add(part []byte) error {
	if d.copying {
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
	d.copying = true
	_, err := d.out.Write(d.line)
	d.line = d.line[:0]
	return err
}

func (d *directiveParser) isDirective() bool {
	return bytes.HasPrefix(d.line, []byte(progressPrefix)) || bytes.HasPrefix(d.line, []byte(resultPrefix))
}

// mayBeDirective reports whether the line begins like a directive, as far as it is known.
func (d *directiveParser) mayBeDirective() bool {
	for _, p := range []string{progressPrefix, resultPrefix} {
		n := min(len(p), len(d.line))
		if string(d.line[:n]) == p[:n] {
			return true
		}
	}
	return false
}

// endLine interprets the buffered line. It must also be called after the last Write, because
// the last line may have no newline.
func (d *directiveParser) endLine() error {
	buffered, tooLong := d.line, d.tooLong
	line := strings.TrimRight(string(buffered), "\r\n")
	d.line, d.copying, d.tooLong = d.line[:0], false, false
	if result, ok := strings.CutPrefix(line, resultPrefix); ok {
		d.setResult(result, tooLong)
		return nil
	}
	if progress, ok := strings.CutPrefix(line, progressPrefix); ok && d.reportProgress(progress) {
		return nil
	}
	if len(buffered) == 0 {
		return nil
	}
	_, err := d.out.Write(buffered)
	return err
}

// setResult checks the result by the rules that the control plane has for results. The
// error names the byte that breaks them.
func (d *directiveParser) setResult(result string, tooLong bool) {
	d.result, d.err = nil, nil
	directive := strings.TrimSpace(resultPrefix)
	if tooLong || len(result) > tasker.MaxResult {
		d.err = fmt.Errorf("the line %s is longer than %d bytes", directive, tasker.MaxResult)
		return
	}
	if err := reportrules.CheckResult(json.RawMessage(result)); err != nil {
		d.err = fmt.Errorf("the line %s is refused: its JSON %w: %s", directive, err, excerpt(result))
		return
	}
	if len(result) == 0 {
		d.err = fmt.Errorf("the line %s has no JSON", directive)
		return
	}
	d.result = json.RawMessage(result)
}

// reportProgress returns false if the text does not begin with a percentage.
func (d *directiveParser) reportProgress(text string) bool {
	number, message, _ := strings.Cut(strings.TrimSpace(text), " ")
	percent, err := strconv.ParseFloat(strings.TrimSuffix(number, "%"), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return false
	}
	d.progress(percent, excerpt(strings.TrimSpace(message)))
	return true
}

// maxExcerpt is the number of bytes of a line that a message quotes.
const maxExcerpt = 1000

// excerpt returns the beginning of s as valid UTF-8.
func excerpt(s string) string {
	if len(s) > maxExcerpt {
		s = s[:maxExcerpt] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
