// Package strictjson rejects JSON that different parsers read in different ways
// (RFC 8259 calls it unpredictable, RFC 7493 forbids it). The API checks each request
// with it, so that the store, the agent and the handler all read the same document.
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

// MaxDepth bounds the nesting of arrays and objects.
const MaxDepth = 128

// The longest text of a number and the highest exponent. Both exceed what a float64
// needs, and are too small to slow down a parser of big numbers.
const (
	maxNumberLength = 400
	maxExponent     = 400
)

// Error is the first error in a document.
type Error struct {
	// Path locates the invalid value, as in ".payload.list[3]"; empty is the document.
	Path string
	// Message completes a sentence that begins with the path.
	Message string
	// Unsupported is true if the document is valid JSON, but has a value that common
	// parsers cannot represent.
	Unsupported bool
}

// Error returns the path and the message.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// Check returns an *Error if data is not one valid JSON document of at most MaxDepth levels.
func Check(data []byte) error { return CheckDepth(data, MaxDepth) }

// CheckDepth returns an *Error if data is not one valid JSON document of at most maxDepth
// levels of arrays and objects.
func CheckDepth(data []byte, maxDepth int) error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return &Error{Message: "is empty, but a JSON value is expected"}
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &Error{Message: "begins with a byte order mark; JSON is sent without one"}
	case !utf8.Valid(data):
		return &Error{Message: fmt.Sprintf("is not valid UTF-8 at byte %d", invalidOffset(data))}
	}
	if !json.Valid(data) {
		err := json.Unmarshal(data, new(json.RawMessage)) // for the reason
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return &Error{Message: fmt.Sprintf("is not valid JSON at byte %d: %v", syntax.Offset, err)}
		}
		return &Error{Message: "is not valid JSON: " + err.Error()}
	}
	if offset := loneSurrogate(data); offset >= 0 {
		return &Error{Message: fmt.Sprintf("has half of a surrogate pair at byte %d, which is not a character", offset)}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := checkValue(dec, 0, maxDepth)
	var e *Error
	if errors.As(err, &e) {
		return &Error{Path: truncate(e.Path), Message: e.Message, Unsupported: e.Unsupported}
	}
	return err
}

// Value parses a document that has passed Check. json.Marshal writes equal documents in
// the same way: without white space, with sorted keys and with the original numbers.
func Value(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return v, nil
}

func checkValue(dec *json.Decoder, depth, maxDepth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Number:
		return checkNumber(t.String())
	case json.Delim:
		if depth == maxDepth {
			return &Error{Message: fmt.Sprintf("is nested deeper than %d", maxDepth)}
		}
		if t == '{' {
			err = checkObject(dec, depth+1, maxDepth)
		} else {
			err = checkArray(dec, depth+1, maxDepth)
		}
		if err != nil {
			return err
		}
		_, err = dec.Token() // the closing delimiter
		return err
	}
	return nil
}

func checkObject(dec *json.Decoder, depth, maxDepth int) error {
	seen := map[string]struct{}{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if _, duplicate := seen[key]; duplicate {
			return atStep("."+key, &Error{Message: "is given twice"})
		}
		seen[key] = struct{}{}
		if err := checkValue(dec, depth, maxDepth); err != nil {
			return atStep("."+key, err)
		}
	}
	return nil
}

func checkArray(dec *json.Decoder, depth, maxDepth int) error {
	for i := 0; dec.More(); i++ {
		if err := checkValue(dec, depth, maxDepth); err != nil {
			return atStep("["+strconv.Itoa(i)+"]", err)
		}
	}
	return nil
}

// atStep puts a step before the path of an error. Paths are built only for errors,
// because the paths of all values would have quadratic size.
func atStep(step string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	return &Error{Path: step + e.Path, Message: e.Message, Unsupported: e.Unsupported}
}

// checkNumber rejects a number that is slow to parse, or that exceeds a float64: agents and
// handlers could not read it.
func checkNumber(text string) error {
	_, exponent, found := strings.Cut(strings.ToLower(text), "e")
	n, err := strconv.Atoi(exponent)
	isHuge := found && (err != nil || n > maxExponent || n < -maxExponent) || len(text) > maxNumberLength
	if !isHuge {
		_, err = strconv.ParseFloat(text, 64)
		isHuge = err != nil
	}
	if isHuge {
		return &Error{Message: "is a number that many parsers cannot read: send it as a string", Unsupported: true}
	}
	return nil
}

// loneSurrogate returns the offset of an escape like \ud83d that is not half of a pair;
// -1 is none. In a valid document a backslash occurs in strings only.
func loneSurrogate(data []byte) int {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch unit := codeUnit(data, i); {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return i
		case unit >= 0xD800 && unit <= 0xDBFF:
			if low := codeUnit(data, i+6); low < 0xDC00 || low > 0xDFFF {
				return i
			}
			i += 11
		default:
			i++
		}
	}
	return -1
}

// codeUnit returns the code unit of the escape \uXXXX at i; -1 is none.
func codeUnit(data []byte, i int) int {
	if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// invalidOffset returns the offset of the first invalid UTF-8 byte.
func invalidOffset(data []byte) int {
	offset := 0
	for {
		r, size := utf8.DecodeRune(data[offset:])
		if r == utf8.RuneError && size <= 1 {
			return offset
		}
		offset += size
	}
}

// truncate bounds the length of a path.
func truncate(path string) string {
	const maxLength = 120
	if len(path) <= maxLength {
		return path
	}
	return strings.ToValidUTF8(path[:maxLength], "") + "…"
}
