package handlers

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxShown bounds what is shown of a text that does not fit, in characters.
const maxShown = 80

// bounds says which bound of s a value is beyond; nil if it is none of those that
// it knows.
func bounds(path string, s *jsonschema.Schema, v any) []Problem {
	say := func(format string, args ...any) []Problem { return []Problem{{path, fmt.Sprintf(format, args...)}} }
	switch v := v.(type) {
	case string:
		n := utf8.RuneCountInString(v)
		if msg := count(n, "character", s.MinLength, s.MaxLength); msg != "" {
			return say("%s", msg)
		}
		if matches, err := regexp.MatchString(s.Pattern, v); err == nil && !matches {
			return say("is %q, which does not match %s", shown(v), s.Pattern)
		}
	case float64:
		switch {
		case s.Minimum != nil && v < *s.Minimum:
			return say("is %s, but must be at least %s", number(v), number(*s.Minimum))
		case s.Maximum != nil && v > *s.Maximum:
			return say("is %s, but must be at most %s", number(v), number(*s.Maximum))
		}
	case []any:
		if msg := count(len(v), "item", s.MinItems, s.MaxItems); msg != "" {
			return say("%s", msg)
		}
	case map[string]any:
		if msg := count(len(v), "field", s.MinProperties, s.MaxProperties); msg != "" {
			return say("%s", msg)
		}
		if names := choice(s.OneOf); len(names) > 0 && given(v, names) != 1 {
			return say("must have exactly one of %s", strings.Join(names, ", "))
		}
	}
	return nil
}

// count says what is wrong with a number of things; empty is nothing.
func count(n int, thing string, least, most *int) string {
	switch {
	case least != nil && n < *least:
		return fmt.Sprintf("has %s; at least %d must be there", things(n, thing), *least)
	case most != nil && n > *most:
		return fmt.Sprintf("has %s; at most %d may be there", things(n, thing), *most)
	}
	return ""
}

func things(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// choice are the fields of which one must be there, where that is all that the
// alternatives say.
func choice(alternatives []*jsonschema.Schema) []string {
	var names []string
	for _, s := range alternatives {
		if len(s.Required) != 1 || s.Type != "" || s.Properties != nil {
			return nil
		}
		names = append(names, s.Required[0])
	}
	return names
}

func given(v map[string]any, names []string) int {
	n := 0
	for _, name := range names {
		if _, found := v[name]; found {
			n++
		}
	}
	return n
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func shown(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}
