package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker/internal/strictjson"
)

// maxFieldErrors bounds the errors in one problem.
const maxFieldErrors = 20

// bodyReader reads the fields of one JSON object and collects what is wrong with them.
type bodyReader struct {
	fields map[string]json.RawMessage
	errors []*huma.ErrorDetail
}

// readBody reads a body that must be one strict JSON object. It returns a problem if it
// is not.
func readBody(body []byte) (bodyReader, error) {
	var r bodyReader
	if err := strictjson.Check(body); err != nil {
		var e *strictjson.Error
		errors.As(err, &e)
		status := http.StatusBadRequest
		if e.Unsupported {
			status = http.StatusUnprocessableEntity
		}
		return r, newFieldProblem(status, "the body cannot be read", "body"+e.Path, e.Message)
	}
	if json.Unmarshal(body, &r.fields) != nil || r.fields == nil {
		return r, newFieldProblem(http.StatusUnprocessableEntity, "the body must be a JSON object", "body", "is "+jsonType(body)+", but must be an object")
	}
	return r, nil
}

// reject adds an error. The message completes a sentence that begins with the field.
func (r *bodyReader) reject(field, format string, args ...any) {
	r.errors = append(r.errors, &huma.ErrorDetail{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
}

// rejectUnknown adds an error for each field that is not known.
func (r *bodyReader) rejectUnknown(known []string) {
	for name := range r.fields {
		if !slices.Contains(known, name) {
			r.reject(truncate(name), "is not known; known fields are %s", strings.Join(known, ", "))
		}
	}
}

// rejectPayload adds the errors of a payload: one for each path, like payload.argv[2],
// if err lists them.
func (r *bodyReader) rejectPayload(err error) {
	var list interface {
		Each(func(path, message string))
	}
	if !errors.As(err, &list) {
		r.reject("payload", "is not valid: %v", err)
		return
	}
	list.Each(func(path, message string) { r.reject(path, "%s", message) })
}

// problem returns the collected errors as a problem, or nil.
func (r *bodyReader) problem() error {
	if len(r.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errors, func(a, b *huma.ErrorDetail) int { return strings.Compare(a.Location, b.Location) })
	detail := r.errors[0].Location + " " + r.errors[0].Message
	if more := len(r.errors) - maxFieldErrors; more > 0 {
		r.errors = append(r.errors[:maxFieldErrors], &huma.ErrorDetail{Location: "body", Message: fmt.Sprintf("and %d more errors", more)})
	}
	return newProblem(http.StatusUnprocessableEntity, detail, r.errors...)
}

// noValue is the message for a field that is given without a value. It must not mean the
// default, such as every endpoint: the value is probably an unset variable of the caller.
const noValue = "is %s; leave it out for the default, or give it a value"

// field returns a field's JSON and whether it is present. It rejects null.
func (r *bodyReader) field(name string) (json.RawMessage, bool) {
	raw, found := r.fields[name]
	if found && jsonType(raw) == "null" {
		r.reject(name, noValue, "null")
		return nil, false
	}
	return raw, found
}

// text reads an optional string field and reports whether it is present and valid. The
// text expected completes "must be …".
func (r *bodyReader) text(name, expected string) (string, bool) {
	raw, found := r.field(name)
	if !found {
		return "", false
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		r.reject(name, "is %s, but must be %s", jsonType(raw), expected)
		return "", false
	}
	return text, true
}

// object reads the fields of a nested object. It reports whether raw is an object.
func (r *bodyReader) object(name string, raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if jsonType(raw) != "an object" || json.Unmarshal(raw, &fields) != nil {
		r.reject(name, "is %s, but must be an object", jsonType(raw))
		return nil, false
	}
	return fields, true
}

// decodeFields decodes each field of a nested object into its target. It rejects null and
// empty strings.
func (r *bodyReader) decodeFields(object string, fields map[string]json.RawMessage, targets map[string]any) {
	for name, raw := range fields {
		target, known := targets[name]
		switch {
		case !known:
			r.reject(object+"."+truncate(name), "is not known; known fields are %s", strings.Join(slices.Sorted(maps.Keys(targets)), ", "))
		case jsonType(raw) == "null":
			r.reject(object+"."+name, noValue, "null")
		case string(raw) == `""`:
			r.reject(object+"."+name, noValue, "empty")
		default:
			if err := json.Unmarshal(raw, target); err != nil {
				r.reject(object+"."+name, "is not valid: %s", decodeMessage(err))
			}
		}
	}
}

// decodeMessage rewrites a decoder's error without Go's type names.
func decodeMessage(err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok { //nolint:errorlint // a wrapped error has a text of its own
		return fmt.Sprintf("it is %s, but must be %s", typeName(e.Value), typeName(e.Type.Kind().String()))
	}
	return err.Error()
}

// typeName returns the name of a type of encoding/json or reflect, as jsonType does.
func typeName(t string) string {
	switch t {
	case "object":
		return "an object"
	case "array", "slice":
		return "a list"
	case "bool":
		return "a boolean"
	default:
		return "a " + t
	}
}

// jsonType names the type of a valid JSON document.
func jsonType(raw []byte) string {
	switch raw = bytes.TrimSpace(raw); raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
