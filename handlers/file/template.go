package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// values are the values of a template. Whole numbers are int64, so that 1000000 is not
// written as 1e+06.
type values map[string]any

// UnmarshalJSON reads an object.
func (v *values) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return err
	}
	for name, value := range m {
		m[name] = convertNumbers(value)
	}
	*v = m
	return nil
}

// convertNumbers converts all numbers of a value to int64 or float64.
func convertNumbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return n
		}
		if f, err := value.Float64(); err == nil {
			return f
		}
		return value.String()
	case map[string]any:
		for name, v := range value {
			value[name] = convertNumbers(v)
		}
	case []any:
		for i, v := range value {
			value[i] = convertNumbers(v)
		}
	}
	return value
}

// render returns the content of a template: {{.name}} is a value, {{.name.part}} a value of
// an object, and {{endpoint}} and {{identifier}} belong to the call. The syntax is a subset
// of text/template, which would be a sixth of the agent's program.
func render(text string, v values, call handlers.Call) ([]byte, error) {
	var out bytes.Buffer
	for rest := text; ; {
		plain, action, found := strings.Cut(rest, "{{")
		out.WriteString(plain)
		line := 1 + strings.Count(text[:len(text)-len(action)], "\n")
		if !found {
			return out.Bytes(), checkSize(out.Len())
		}
		if action, rest, found = strings.Cut(action, "}}"); !found {
			return nil, fmt.Errorf("line %d: {{ without }}", line)
		}
		value, err := lookup(strings.TrimSpace(action), v, call)
		if err != nil {
			return nil, fmt.Errorf("line %d: {{%s}}: %w", line, action, err)
		}
		fmt.Fprint(&out, value)
		if err := checkSize(out.Len()); err != nil {
			return nil, err
		}
	}
}

// lookup returns the value of the expression between the braces.
func lookup(action string, v values, call handlers.Call) (any, error) {
	switch action {
	case "endpoint":
		return call.Endpoint, nil
	case "identifier":
		return call.Identifier, nil
	}
	path, isValue := strings.CutPrefix(action, ".")
	if !isValue {
		return nil, errors.New("is unknown; known are endpoint, identifier and values, like .port or .db.host")
	}
	var value any = map[string]any(v)
	for name := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		var found bool
		if value, found = object[name]; !found {
			return nil, fmt.Errorf("there is no value %q", name)
		}
	}
	switch value.(type) {
	case map[string]any, []any, nil:
		return nil, errors.New("is an object, a list or null; only strings, numbers, true and false can be written")
	}
	return value, nil
}

// checkSize returns an error if a file would have too many bytes.
func checkSize(size int) error {
	if size > maxSize {
		return fmt.Errorf("the result has more than %d MiB", maxSize>>20)
	}
	return nil
}
