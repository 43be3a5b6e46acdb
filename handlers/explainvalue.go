package handlers

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxExcerpt is the number of characters of a string that a message quotes.
const maxExcerpt = 80

// explainValue returns a message about the enumeration or limit of s that v violates, or ""
// if v violates none of those that this function checks.
func explainValue(s *jsonschema.Schema, v any) string {
	isV := func(x any) bool { return reflect.DeepEqual(x, v) }
	if enum, err := json.Marshal(s.Enum); err == nil && s.Enum != nil && !slices.ContainsFunc(s.Enum, isV) {
		return "must be one of " + string(enum)
	}
	return explainLimits(s, v)
}

func explainLimits(s *jsonschema.Schema, v any) string {
	switch v := v.(type) {
	case string:
		return explainString(s, v)
	case float64:
		switch {
		case s.Minimum != nil && v < *s.Minimum:
			return fmt.Sprintf("is %s, but must be at least %s", formatNumber(v), formatNumber(*s.Minimum))
		case s.Maximum != nil && v > *s.Maximum:
			return fmt.Sprintf("is %s, but must be at most %s", formatNumber(v), formatNumber(*s.Maximum))
		}
	case []any:
		return explainCount(len(v), "item", s.MinItems, s.MaxItems)
	case map[string]any:
		if msg := explainCount(len(v), "field", s.MinProperties, s.MaxProperties); msg != "" {
			return msg
		}
		if names := exclusiveFields(s.OneOf); len(names) > 0 && countPresent(v, names) != 1 {
			return "must have exactly one of " + strings.Join(names, ", ")
		}
	}
	return ""
}

func explainString(s *jsonschema.Schema, v string) string {
	if msg := explainCount(utf8.RuneCountInString(v), "character", s.MinLength, s.MaxLength); msg != "" {
		return msg
	}
	if matches, err := regexp.MatchString(s.Pattern, v); err == nil && !matches {
		return fmt.Sprintf("is %q, which does not match %s", excerpt(v), s.Pattern)
	}
	return ""
}

// explainCount returns a message if n is below the least or above the most, or "".
func explainCount(n int, noun string, least, most *int) string {
	switch {
	case least != nil && n < *least:
		return fmt.Sprintf("has %s, but must have at least %d", plural(n, noun), *least)
	case most != nil && n > *most:
		return fmt.Sprintf("has %s, but must have at most %d", plural(n, noun), *most)
	}
	return ""
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// exclusiveFields returns the names of the fields of which exactly one must be present.
// It returns nil if the alternatives of a schema demand anything else.
func exclusiveFields(alternatives []*jsonschema.Schema) []string {
	var names []string
	for _, s := range alternatives {
		if len(s.Required) != 1 || s.Type != "" || s.Properties != nil {
			return nil
		}
		names = append(names, s.Required[0])
	}
	return names
}

func countPresent(v map[string]any, names []string) int {
	n := 0
	for _, name := range names {
		if _, found := v[name]; found {
			n++
		}
	}
	return n
}

func formatNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func excerpt(s string) string {
	if r := []rune(s); len(r) > maxExcerpt {
		return string(r[:maxExcerpt]) + "…"
	}
	return s
}
