// Package terminal takes out of a text from elsewhere what a terminal would obey, so
// that whoever printed it cannot move the cursor, set the title, fill the clipboard
// or have keys pressed. The sequences are those of ECMA-48 and of xterm
// (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Writer passes on what is text. What is no UTF-8 becomes U+FFFD, and a carriage
// return begins a line, so that nothing is written over. A sequence that has no end
// takes no more with it than its line. Close must be called.
type Writer struct {
	Out io.Writer
	// Colours lets colours and the like through (SGR), which Close resets.
	Colours bool

	text   []byte // for Out
	part   []byte // the beginning of a rune
	within state
	params []byte // of a control sequence
	begun  bool   // there is something on the line
	back   bool   // a carriage return was last
	styled bool   // colours were not reset
}

// state says what the next rune is a part of.
type state int

const (
	text     state = iota
	escape         // after ESC
	charset        // after ESC and a rune that one more follows
	sequence       // after ESC [
	command        // after ESC ] and the like, up to BEL or ST
)

// maxParams is more than any colour needs.
const maxParams = 64

// Write never fails but for Out.
func (w *Writer) Write(p []byte) (int, error) {
	w.text, w.part = w.text[:0], append(w.part, p...)
	for len(w.part) > 0 && utf8.FullRune(w.part) {
		r, n := utf8.DecodeRune(w.part)
		w.part = w.part[n:]
		w.take(r)
	}
	if _, err := w.Out.Write(w.text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what was held back. It does not close Out.
func (w *Writer) Close() error {
	w.text = w.text[:0]
	if len(w.part) > 0 {
		w.take(utf8.RuneError)
	}
	w.feed()
	if w.styled {
		w.text = append(w.text, "\x1b[0m"...)
	}
	w.part, w.within, w.styled = nil, text, false
	_, err := w.Out.Write(w.text)
	return err
}

func (w *Writer) take(r rune) {
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
		w.escaped(r)
	case charset:
		if r < ' ' || r > '/' {
			w.within = text
		}
	case sequence:
		w.sequenced(r)
	case command:
		if r == '\a' || r == '\u009c' {
			w.within = text
		}
	}
}

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
		w.begun = true // an empty line is one, too
		w.back = true
		w.feed()
		return
	case r != '\t' && Controls(r):
		return
	}
	w.feed()
	w.text, w.begun = utf8.AppendRune(w.text, r), true
}

// feed begins the line that a carriage return has asked for.
func (w *Writer) feed() {
	if w.back && w.begun {
		w.text, w.begun = append(w.text, '\n'), false
	}
	w.back = false
}

func (w *Writer) escaped(r rune) {
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

func (w *Writer) sequenced(r rune) {
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

// Controls says whether a rune can control a terminal, or turn a line about, by
// itself.
func Controls(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// Strip is what a Writer without colours passes on.
func Strip(s string) string {
	var b strings.Builder
	w := Writer{Out: &b}
	_, _ = io.WriteString(&w, s) // a Builder takes everything
	_ = w.Close()
	return b.String()
}
