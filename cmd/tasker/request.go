package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api/strictjson"
)

// maxRequest is what the control plane takes as the body of a request, in bytes.
const maxRequest = 4 << 20

// optionalJSON returns the JSON that a flag holds or names.
func optionalJSON(name, flag string, stdin io.Reader) (json.RawMessage, error) {
	if flag == "" {
		return nil, nil
	}
	content, source := []byte(flag), "the value"
	var err error
	switch file, isFile := strings.CutPrefix(flag, "@"); {
	case flag == "-":
		source = "the standard input"
		content, err = readFile("-", stdin, tasker.MaxPayload)
	case isFile:
		source = file
		content, err = readFile(file, stdin, tasker.MaxPayload)
	}
	if err != nil {
		return nil, usage("%s: %w", name, err)
	}
	if len(content) > tasker.MaxPayload {
		return nil, usage("%s: %s has more than the %d bytes that are allowed", name, source, tasker.MaxPayload)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(content, new(json.RawMessage)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(content[:min(int(syntax.Offset), len(content))], []byte("\n"))
		return nil, usage("%s: %s is no JSON: line %d: %w", name, source, line, err)
	}
	return content, nil
}

// readFile reads a file, or the standard input for -; of one that is longer than
// most, one byte more than that.
func readFile(name string, stdin io.Reader, most int64) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	return io.ReadAll(io.LimitReader(stdin, most+1))
}

// request is a request for a task as a file holds it: what POST takes, and the
// type of the task.
type request map[string]json.RawMessage

// readRequest reads a request from a file in JSON or YAML, which - takes from the
// standard input.
func readRequest(file string, stdin io.Reader) (request, error) {
	content, err := readFile(file, stdin, maxRequest)
	switch {
	case err != nil:
		return nil, usage("read the request: %w", err)
	case len(content) > maxRequest:
		return nil, usage("%s has more than the %d bytes that are allowed", file, maxRequest)
	}
	if json.Valid(content) {
		if err := strictjson.Check(content); err != nil {
			return nil, usage("%s: %s", file, strings.TrimPrefix(err.Error(), "."))
		}
	} else {
		if content, err = fromYAML(content); err != nil {
			return nil, usage("%s is neither JSON nor YAML: %w", file, err)
		}
	}
	var q request
	if json.Unmarshal(content, &q) != nil || q == nil {
		return nil, usage("%s holds no request: it must be an object, with identifier, payload, endpoints and what else POST takes", file)
	}
	return q, nil
}

// fromYAML is the one document of a YAML file, as JSON.
func fromYAML(content []byte) ([]byte, error) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var v, more any
	switch err := d.Decode(&v); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case err != nil:
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return json.Marshal(v)
}

// taskType is the type that the command line or the file names.
func (q request) taskType(given string) (string, error) {
	var own string
	if raw, found := q["type"]; found && json.Unmarshal(raw, &own) != nil {
		return "", usage("type must be the name of a task type, not %s", raw)
	}
	switch {
	case own == "" && given == "":
		return "", usage("the task type is missing: name it on the command line, or as type in the file")
	case own != "" && given != "" && own != given:
		return "", usage("the file is for the task type %s, not for %s", own, given)
	case own != "":
		return own, nil
	}
	return given, nil
}

// body is what POST takes.
func (q request) body() json.RawMessage {
	delete(q, "type")
	if _, found := q["identifier"]; !found {
		q["identifier"], _ = json.Marshal(uuid.NewString()) // a string
	}
	body, _ := json.Marshal(q) // it was read from JSON
	return body
}

// field reads a field, if it is there, as strictly as the control plane does.
func (q request) field(name string, target any) error {
	raw, found := q[name]
	if !found {
		return nil
	}
	if err := strictly(raw, target); err != nil {
		return usage("%s: %w", name, err)
	}
	return nil
}

// strictly reads JSON of known fields only; its errors are for people, who know
// nothing of Go.
func strictly(raw json.RawMessage, target any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(target)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		kinds := map[reflect.Kind]string{reflect.Slice: "a list", reflect.Map: "an object", reflect.Struct: "an object", reflect.Bool: "true or false", reflect.String: "a text"}
		return fmt.Errorf("it is a JSON %s, but must be %s", mistyped.Value, cmp.Or(kinds[mistyped.Type.Kind()], "a number"))
	case err != nil:
		return errors.New(strings.Replace(err.Error(), "json: unknown field", "not known is", 1))
	}
	return nil
}

// identifier refuses one that POST does not take; one that is left out is generated.
func (q request) identifier() error {
	var id *string
	if err := q.field("identifier", &id); err != nil || id == nil {
		return err
	}
	if err := tasker.ValidateNewIdentifier(*id); err != nil {
		return usage("%w", err)
	}
	return nil
}

// known refuses fields that POST does not take.
func (q request) known() error {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if fields := tasker.RequestFields(); name != "type" && !slices.Contains(fields, name) {
			return usage("%s is not known; known are %s", plain(name), strings.Join(fields, ", "))
		}
	}
	return nil
}

// rollout reads the field of that name, field by field, so that an error names the
// one that is wrong; nil if it is not there.
func (q request) rollout() (*tasker.RolloutSpec, error) {
	var fields request
	if err := q.field("rollout", &fields); err != nil || fields == nil {
		return nil, err
	}
	var s tasker.RolloutSpec
	var known request
	all, err := json.Marshal(tasker.RolloutSpec{Gate: &tasker.Gate{}})
	if err == nil {
		err = json.Unmarshal(all, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("list the fields of a rollout: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, found := known[name]; !found {
			return nil, usage("rollout.%s is not known; known are %s", plain(name), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		one, err := json.Marshal(request{name: fields[name]})
		if err == nil {
			err = strictly(one, &s)
		}
		if err != nil {
			return nil, usage("rollout.%s: %w", plain(name), err)
		}
	}
	s.Defaults()
	var faults []string
	s.Faults(func(field, message string) { faults = append(faults, "rollout."+field+" "+message) })
	if len(faults) > 0 {
		return nil, usage("%s", strings.Join(faults, "; "))
	}
	return &s, nil
}

// targets reads the endpoints that are named and the selector of labels.
func (q request) targets() ([]string, tasker.Selector, error) {
	var names []string
	if err := q.field("endpoints", &names); err != nil {
		return nil, nil, err
	}
	if names != nil && len(names) == 0 {
		return nil, nil, usage("endpoints is empty; leave it out to reach every endpoint that serves the type")
	}
	there := map[string]bool{}
	for _, name := range names {
		if err := tasker.ValidateEndpoint(name); err != nil {
			return nil, nil, usage("%w", err)
		}
		if there[name] {
			return nil, nil, usage("endpoints: %q is there twice", name)
		}
		there[name] = true
	}
	var labels *string
	if err := q.field("labels", &labels); err != nil || labels == nil {
		return names, nil, err
	}
	selector, err := tasker.ParseSelector(*labels)
	if err != nil {
		return nil, nil, usage("labels: %w", err)
	}
	return names, selector, nil
}
