// Package strictjson refuses JSON that readers are known to disagree about
// (RFC 8259 calls it unpredictable, RFC 7493 forbids it), so that what was
// checked is what everyone later sees: the store, the agent and its handler.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may be nested.
const MaxDepth = 128

// The longest text of a number and the highest exponent: more than any float64
// needs, and too little to keep a reader of big numbers busy.
const (
	maxNumber   = 400
	maxExponent = 400
)

// Error says what is wrong with a document.
type Error struct {
	// Path is where, as in ".payload.list[3]"; empty is the document itself.
	Path string
	// Message is what, for people.
	Message string
}

// Error joins both.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// Check says what is wrong with one JSON document, as an *Error, or nil.
func Check(data []byte) error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return &Error{Message: "is empty, but a JSON value is expected"}
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &Error{Message: "begins with a byte order mark; JSON is sent without one"}
	case !utf8.Valid(data):
		return &Error{Message: fmt.Sprintf("is not valid UTF-8 at byte %d", invalidAt(data))}
	}
	if !json.Valid(data) {
		err := json.Unmarshal(data, new(json.RawMessage)) // which says why
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return &Error{Message: fmt.Sprintf("is not valid JSON at byte %d: %v", syntax.Offset, err)}
		}
		return &Error{Message: "is not valid JSON: " + err.Error()}
	}
	if at := loneSurrogate(data); at >= 0 {
		return &Error{Message: fmt.Sprintf("has half of a surrogate pair at byte %d, which is no character", at)}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := value(dec, 0)
	var e *Error
	if errors.As(err, &e) {
		return &Error{Path: shorten(e.Path), Message: e.Message}
	}
	return err
}

// Value reads a document that passed Check so that json.Marshal writes it in one
// way only: without white space and with sorted keys. The text of numbers stays.
func Value(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return v, nil
}

func value(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Number:
		return number(t.String())
	case json.Delim:
		if depth == MaxDepth {
			return &Error{Message: fmt.Sprintf("is nested deeper than %d", MaxDepth)}
		}
		if t == '{' {
			err = object(dec, depth+1)
		} else {
			err = array(dec, depth+1)
		}
		if err != nil {
			return err
		}
		_, err = dec.Token() // the closing delimiter
		return err
	}
	return nil
}

func object(dec *json.Decoder, depth int) error {
	seen := map[string]struct{}{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if _, twice := seen[key]; twice {
			return within("."+key, &Error{Message: "is given twice"})
		}
		seen[key] = struct{}{}
		if err := value(dec, depth); err != nil {
			return within("."+key, err)
		}
	}
	return nil
}

func array(dec *json.Decoder, depth int) error {
	for i := 0; dec.More(); i++ {
		if err := value(dec, depth); err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return nil
}

// within puts the way to a value before the path of an error in it. Paths are
// made only then: for each value of a document they would cost its square.
func within(step string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	return &Error{Path: step + e.Path, Message: e.Message}
}

func number(text string) error {
	_, exponent, found := strings.Cut(strings.ToLower(text), "e")
	if n, err := strconv.Atoi(exponent); found && (err != nil || n > maxExponent || n < -maxExponent) || len(text) > maxNumber {
		return &Error{Message: "is a number beyond what programs can read"}
	}
	return nil
}

// loneSurrogate finds an escape like \ud83d that is not half of a pair, in a
// valid document, where a backslash can only be in a string; -1 is none.
func loneSurrogate(data []byte) int {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch unit := escape(data, i); {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return i
		case unit >= 0xD800 && unit <= 0xDBFF:
			if low := escape(data, i+6); low < 0xDC00 || low > 0xDFFF {
				return i
			}
			i += 11
		default:
			i++
		}
	}
	return -1
}

// escape is the code unit of the escape \uXXXX at i; -1 if there is none.
func escape(data []byte, i int) int {
	if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

func invalidAt(data []byte) int {
	at := 0
	for {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// shorten keeps a path readable, however deep or long-winded the document is.
func shorten(path string) string {
	const most = 120
	if len(path) <= most {
		return path
	}
	return strings.ToValidUTF8(path[:most], "") + "…"
}
