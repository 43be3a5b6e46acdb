package handlers

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxProblems is the number of problems that are reported for one payload.
const maxProblems = 10

// explainer turns a failed validation, whose error names places in the schema, into
// problems that name fields of the payload.
type explainer struct{ root *jsonschema.Schema }

// explain returns the problems of v, which does not match s. It returns nil if it finds
// no better explanation than the validation's own error.
func (e explainer) explain(path string, s *jsonschema.Schema, v any) []Problem {
	if name, found := strings.CutPrefix(s.Ref, "#/$defs/"); found && e.root.Defs[name] != nil {
		s = e.root.Defs[name]
	}
	if types := allowedTypes(s); len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return hasType(v, t) }) {
		return []Problem{{path, fmt.Sprintf("must be %s, not %s", joinTypes(types), withArticle(typeOf(v)))}}
	}
	var problems []Problem
	switch v := v.(type) {
	case map[string]any:
		problems = e.explainObject(path, s, v)
	case []any:
		for i, item := range v {
			itemSchema := s.Items
			if i < len(s.PrefixItems) {
				itemSchema = s.PrefixItems[i]
			}
			problems = append(problems, e.explainChild(fmt.Sprintf("%s[%d]", path, i), itemSchema, item)...)
		}
	}
	if len(problems) == 0 {
		if msg := explainValue(s, v); msg != "" {
			problems = []Problem{{path, msg}}
		}
	}
	return problems[:min(len(problems), maxProblems)]
}

func (e explainer) explainObject(path string, s *jsonschema.Schema, v map[string]any) []Problem {
	var problems []Problem
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			problems = append(problems, Problem{path + "." + name, "is missing"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		fieldPath := joinPath(path, name)
		switch sub := s.Properties[name]; {
		case sub != nil:
			problems = append(problems, e.explainChild(fieldPath, sub, v[name])...)
		case s.PatternProperties != nil || s.AdditionalProperties == nil:
		case reflect.DeepEqual(s.AdditionalProperties, &jsonschema.Schema{Not: &jsonschema.Schema{}}):
			msg := "is not known; no fields are allowed"
			if known := slices.Sorted(maps.Keys(s.Properties)); len(known) > 0 {
				msg = "is not known; known fields are " + strings.Join(known, ", ")
			}
			problems = append(problems, Problem{fieldPath, msg})
		default:
			problems = append(problems, e.explainChild(fieldPath, s.AdditionalProperties, v[name])...)
		}
	}
	return problems
}

// explainChild returns the problems of a part of the payload, or nil if that part matches
// its schema.
func (e explainer) explainChild(path string, s *jsonschema.Schema, v any) []Problem {
	if s == nil {
		return nil
	}
	// The part becomes a schema of its own, which still needs the definitions of the root.
	part := *s
	if part.Defs == nil {
		part.Defs = e.root.Defs
	}
	resolved, err := part.Resolve(nil)
	if err != nil {
		return nil
	}
	err = resolved.Validate(v)
	if err == nil {
		return nil
	}
	if problems := e.explain(path, s, v); len(problems) > 0 {
		return problems
	}
	return []Problem{{path, innermostMessage(err)}}
}

func allowedTypes(s *jsonschema.Schema) []string {
	if s.Type != "" {
		return []string{s.Type}
	}
	return s.Types
}

func hasType(v any, typ string) bool {
	if f, ok := v.(float64); ok && typ == "integer" {
		return f == float64(int64(f))
	}
	return typeOf(v) == typ
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	default:
		return "object"
	}
}

func joinTypes(types []string) string {
	nouns := make([]string, len(types))
	for i, t := range types {
		nouns[i] = withArticle(t)
	}
	return strings.Join(nouns, " or ")
}

func withArticle(typ string) string {
	switch typ {
	case "null":
		return typ
	case "array", "object", "integer":
		return "an " + typ
	}
	return "a " + typ
}

// joinPath returns the path of a field. It quotes a name in which a dot would mislead.
func joinPath(path, name string) string {
	if name == "" || strings.ContainsAny(name, ". []\"\n") {
		return fmt.Sprintf("%s[%q]", path, name)
	}
	return path + "." + name
}

// innermostMessage returns the part of a validation error after the path through the
// schema.
func innermostMessage(err error) string {
	msg := err.Error()
	for strings.HasPrefix(msg, "validating ") {
		_, rest, ok := strings.Cut(msg, ": ")
		if !ok {
			break
		}
		msg = rest
	}
	return msg
}
