// Package terminal removes control sequences from untrusted text, so that the text cannot
// move the cursor, set the title, fill the clipboard or simulate key presses. It knows the
// sequences of ECMA-48 and of xterm (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Writer writes text without its control sequences to Out. Invalid UTF-8 becomes U+FFFD,
// and a carriage return begins a new line, so that no text is overwritten. A sequence
// without an end is removed up to the end of its line. Close must be called.
type Writer struct {
	Out io.Writer
	// Colours keeps colours and other styles (SGR); Close resets them.
	Colours bool

	text   []byte // not yet written to Out
	part   []byte // the first bytes of a rune
	within state
	params []byte // of a control sequence
	begun  bool   // the line is not empty
	back   bool   // the last rune was a carriage return
	styled bool   // styles are not reset yet
}

// state is the kind of text or sequence that the next rune is part of.
type state int

const (
	text     state = iota
	escape         // after ESC
	charset        // after ESC and an intermediate rune
	sequence       // after ESC [
	command        // after ESC ] and the like, up to BEL or ST
)

// maxParams bounds the parameters of a sequence. Colours need fewer.
const maxParams = 64

// Write returns an error only if Out does.
func (w *Writer) Write(p []byte) (int, error) {
	w.text, w.part = w.text[:0], append(w.part, p...)
	for len(w.part) > 0 && utf8.FullRune(w.part) {
		r, n := utf8.DecodeRune(w.part)
		w.part = w.part[n:]
		w.process(r)
	}
	if _, err := w.Out.Write(w.text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes the pending text and resets styles. It does not close Out.
func (w *Writer) Close() error {
	w.text = w.text[:0]
	if len(w.part) > 0 {
		w.process(utf8.RuneError)
	}
	w.newLine()
	if w.styled {
		w.text = append(w.text, "\x1b[0m"...)
	}
	w.part, w.within, w.styled = nil, text, false
	_, err := w.Out.Write(w.text)
	return err
}

// process handles one rune.
func (w *Writer) process(r rune) {
	switch r {
	case '\x1b':
		w.within = escape
		return
	case '\x18', '\x1a': // CAN and SUB
		w.within = text
		return
	case '\n':
		w.within = text
	}
	switch w.within {
	case text:
		w.print(r)
	case escape:
		w.processEscape(r)
	case charset:
		if r < ' ' || r > '/' {
			w.within = text
		}
	case sequence:
		w.processSequence(r)
	case command:
		if r == '\a' || r == '\u009c' {
			w.within = text
		}
	}
}

// print handles a rune outside of sequences.
func (w *Writer) print(r rune) {
	switch {
	case r == '\u009b':
		w.within, w.params = sequence, w.params[:0]
		return
	case strings.ContainsRune("\u0090\u0098\u009d\u009e\u009f", r):
		w.within = command
		return
	case r == '\r':
		w.back = true
		return
	case r == '\n':
		w.begun = true // keep empty lines
		w.back = true
		w.newLine()
		return
	case r != '\t' && Controls(r):
		return
	}
	w.newLine()
	w.text, w.begun = utf8.AppendRune(w.text, r), true
}

// newLine begins a new line if a carriage return is pending and the line is not empty.
func (w *Writer) newLine() {
	if w.back && w.begun {
		w.text, w.begun = append(w.text, '\n'), false
	}
	w.back = false
}

// processEscape handles the rune after ESC.
func (w *Writer) processEscape(r rune) {
	switch {
	case r == '[':
		w.within, w.params = sequence, w.params[:0]
	case strings.ContainsRune("]PX^_", r):
		w.within = command
	case ' ' <= r && r <= '/':
		w.within = charset
	default:
		w.within = text
		if r < '0' || r > '~' {
			w.print(r)
		}
	}
}

// processSequence handles a rune of a sequence that began with ESC [.
func (w *Writer) processSequence(r rune) {
	switch {
	case ' ' <= r && r <= '?':
		if len(w.params) <= maxParams {
			w.params = append(w.params, byte(r))
		}
		return
	case r == 'm' && w.Colours && len(w.params) <= maxParams && strings.Trim(string(w.params), "0123456789;:") == "":
		w.text = fmt.Appendf(w.text, "\x1b[%sm", w.params)
		w.styled = strings.Trim(string(w.params), "0") != ""
	}
	w.within = text
	if r < '@' || r > '~' {
		w.print(r)
	}
}

// Controls reports whether a single rune can control a terminal or change the direction of
// the text.
func Controls(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// Strip returns a text without control sequences and colours.
func Strip(s string) string {
	var b strings.Builder
	w := Writer{Out: &b}
	_, _ = io.WriteString(&w, s) // a Builder returns no error
	_ = w.Close()
	return b.String()
}
