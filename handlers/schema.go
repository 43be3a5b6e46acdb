package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema is a compiled JSON Schema (2020-12) of a payload. It is safe for
// concurrent use.
type Schema struct {
	root     *jsonschema.Schema
	resolved *jsonschema.Resolved
}

// CompileSchema reads a JSON Schema. An empty schema, or null, accepts any payload.
func CompileSchema(schema json.RawMessage) (*Schema, error) {
	if s := bytes.TrimSpace(schema); len(s) == 0 || bytes.Equal(s, []byte("null")) {
		return &Schema{}, nil
	}
	root := new(jsonschema.Schema)
	if err := json.Unmarshal(schema, root); err != nil {
		return nil, fmt.Errorf("read the JSON Schema: %w", err)
	}
	resolved, err := root.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("compile the JSON Schema: %w", err)
	}
	return &Schema{root: root, resolved: resolved}, nil
}

// Validate returns nil, or a *PayloadError that lists the problems. An empty payload
// counts as {}.
func (s *Schema) Validate(payload json.RawMessage) error {
	if len(bytes.TrimSpace(payload)) == 0 {
		payload = json.RawMessage("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	var v any
	if err := dec.Decode(&v); err != nil {
		return &PayloadError{Problems: []Problem{{Path: "payload", Message: "is not JSON: " + err.Error()}}}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &PayloadError{Problems: []Problem{{Path: "payload", Message: "is more than one JSON value"}}}
	}
	if s.resolved == nil {
		return nil
	}
	err := s.resolved.Validate(v)
	if err == nil {
		return nil
	}
	problems := explainer{root: s.root}.explain("payload", s.root, v)
	if len(problems) == 0 {
		problems = []Problem{{Path: "payload", Message: innermostMessage(err)}}
	}
	return &PayloadError{Problems: problems}
}

// PayloadError lists the problems of a payload that does not match its schema.
type PayloadError struct{ Problems []Problem }

// Problem is one violation of the schema.
type Problem struct {
	// Path names the place in the payload, for example payload.argv[2].
	Path string
	// Message continues the sentence that Path begins: "must be a string, not a number".
	Message string
}

// Error lists the problems, like "payload.argv: must be an array, not a string".
func (e *PayloadError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.Path + ": " + p.Message
	}
	return strings.Join(parts, "; ")
}

// Each calls f with each problem.
func (e *PayloadError) Each(f func(path, message string)) {
	for _, p := range e.Problems {
		f(p.Path, p.Message)
	}
}
