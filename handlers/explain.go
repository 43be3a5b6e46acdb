package handlers

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxProblems bounds how much is said about one payload.
const maxProblems = 10

// explainer says for people, in terms of the payload, what a validation that
// has failed says in terms of the schema.
type explainer struct{ root *jsonschema.Schema }

// explain returns what is wrong with v, which does not fit s, and nil if it
// finds no more than the validation itself has said.
func (e explainer) explain(path string, s *jsonschema.Schema, v any) []Problem {
	if name, found := strings.CutPrefix(s.Ref, "#/$defs/"); found && e.root.Defs[name] != nil {
		s = e.root.Defs[name]
	}
	if types := wanted(s); len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return is(v, t) }) {
		return []Problem{{path, fmt.Sprintf("must be %s, not %s", alternatives(types), article(kind(v)))}}
	}
	var problems []Problem
	switch v := v.(type) {
	case map[string]any:
		problems = e.object(path, s, v)
	case []any:
		for i, item := range v {
			of := s.Items
			if i < len(s.PrefixItems) {
				of = s.PrefixItems[i]
			}
			problems = append(problems, e.child(fmt.Sprintf("%s[%d]", path, i), of, item)...)
		}
	}
	if len(problems) == 0 && s.Enum != nil && !slices.ContainsFunc(s.Enum, func(x any) bool { return reflect.DeepEqual(x, v) }) {
		b, err := json.Marshal(s.Enum)
		if err == nil {
			problems = []Problem{{path, "must be one of " + string(b)}}
		}
	}
	if len(problems) == 0 {
		problems = bounds(path, s, v)
	}
	return problems[:min(len(problems), maxProblems)]
}

func (e explainer) object(path string, s *jsonschema.Schema, v map[string]any) []Problem {
	var problems []Problem
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			problems = append(problems, Problem{path + "." + name, "is missing"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		at := member(path, name)
		switch sub := s.Properties[name]; {
		case sub != nil:
			problems = append(problems, e.child(at, sub, v[name])...)
		case s.PatternProperties != nil || s.AdditionalProperties == nil:
		case reflect.DeepEqual(s.AdditionalProperties, &jsonschema.Schema{Not: &jsonschema.Schema{}}):
			msg := "is not known; no field is"
			if known := slices.Sorted(maps.Keys(s.Properties)); len(known) > 0 {
				msg = "is not known; known are " + strings.Join(known, ", ")
			}
			problems = append(problems, Problem{at, msg})
		default:
			problems = append(problems, e.child(at, s.AdditionalProperties, v[name])...)
		}
	}
	return problems
}

// child explains a part of the payload, if that part is wrong by itself.
func (e explainer) child(path string, s *jsonschema.Schema, v any) []Problem {
	if s == nil {
		return nil
	}
	// Made a root, so that it can be validated alone, it keeps the definitions
	// to which it may refer.
	alone := *s
	if alone.Defs == nil {
		alone.Defs = e.root.Defs
	}
	resolved, err := alone.Resolve(nil)
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
	return []Problem{{path, leaf(err)}}
}

func wanted(s *jsonschema.Schema) []string {
	if s.Type != "" {
		return []string{s.Type}
	}
	return s.Types
}

func is(v any, typ string) bool {
	if f, ok := v.(float64); ok && typ == "integer" {
		return f == float64(int64(f))
	}
	return kind(v) == typ
}

func kind(v any) string {
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

func article(typ string) string {
	switch typ {
	case "null":
		return typ
	case "array", "object", "integer":
		return "an " + typ
	default:
		return "a " + typ
	}
}

func alternatives(types []string) string {
	named := make([]string, len(types))
	for i, t := range types {
		named[i] = article(t)
	}
	return strings.Join(named, " or ")
}

// member is the path of a field; the name is quoted where a dot would mislead.
func member(path, name string) string {
	if name == "" || strings.ContainsAny(name, ". []\"\n") {
		return fmt.Sprintf("%s[%q]", path, name)
	}
	return path + "." + name
}

// leaf is what a validation error says after the path through the schema.
func leaf(err error) string {
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
