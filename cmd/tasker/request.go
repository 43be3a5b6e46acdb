package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/yamljson"
	"github.com/MatthiasWiesner/tasker/internal/strictjson"
	"github.com/MatthiasWiesner/tasker/internal/textfile"
)

// maxRequest is the highest size of a request that the control plane accepts, in bytes.
const maxRequest = 4 << 20

// optionalJSON returns the JSON of a flag: its value, or the content of the file that it
// names. It is nil if the flag is empty.
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
	if err == nil {
		content, err = textfile.TrimMark(content)
	}
	if err != nil {
		return nil, usage("%s: %w", name, err)
	}
	if len(content) > tasker.MaxPayload {
		return nil, usage("%s: %s is larger than %d bytes", name, source, tasker.MaxPayload)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(content, new(json.RawMessage)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(content[:min(int(syntax.Offset), len(content))], []byte("\n"))
		return nil, usage("%s: %s is not valid JSON: line %d: %w", name, source, line, err)
	}
	return content, nil
}

// readFile reads a file, or the standard input if the name is "-". It reads at most one
// byte more than limit.
func readFile(name string, stdin io.Reader, limit int64) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	return io.ReadAll(io.LimitReader(stdin, limit+1))
}

// request is a request for a task from a file: the body of POST /TYPE, and the task type
// as type.
type request map[string]json.RawMessage

// readRequest reads a request from a file in JSON or YAML, or from the standard input if
// the name is "-".
func readRequest(file string, stdin io.Reader) (request, error) {
	content, err := readFile(file, stdin, maxRequest)
	if file == "-" {
		file = "the standard input"
	}
	switch {
	case err != nil:
		return nil, usage("read the request: %w", err)
	case len(content) > maxRequest:
		return nil, usage("%s is larger than %d bytes", file, maxRequest)
	}
	if content, err = textfile.TrimMark(content); err != nil {
		return nil, usage("%s: %w", file, err)
	}
	if json.Valid(content) {
		if err := strictjson.Check(content); err != nil {
			return nil, usage("%s: %s", file, strings.TrimPrefix(err.Error(), "."))
		}
	} else {
		if content, err = yamljson.Convert(content); err != nil {
			return nil, usage("%s: %w", file, err)
		}
	}
	var q request
	if json.Unmarshal(content, &q) != nil || q == nil {
		return nil, usage("%s holds no request: it must be an object with the fields of POST /TYPE, such as identifier, payload and endpoints", file)
	}
	return q, nil
}

// taskType returns the task type, which the command line or the file names.
func (q request) taskType(flag string) (string, error) {
	var own string
	if raw, found := q["type"]; found && json.Unmarshal(raw, &own) != nil {
		return "", usage("type must be the name of a task type, not %s", raw)
	}
	switch {
	case own == "" && flag == "":
		return "", usage("the task type is missing: name it on the command line, or as type in the file")
	case own != "" && flag != "" && own != flag:
		return "", usage("the file is for the task type %s, not for %s", own, flag)
	case own != "":
		return own, nil
	}
	return flag, nil
}

// checkSelection returns an error if the request selects no endpoints and all is false, or
// if it selects endpoints and all is true.
func (q request) checkSelection(taskType string, all bool) error {
	_, names := q["endpoints"]
	_, labels := q["labels"]
	switch selects := names || labels; {
	case selects && all:
		return usage("--all is for every endpoint, but the file has endpoints or labels: use only one of the two")
	case !selects && !all:
		return usage("the file has no endpoints: add endpoints or labels to it, or use --all for every endpoint that serves %s", taskType)
	}
	return nil
}

// body returns the body of POST /TYPE. It generates an identifier if there is none.
func (q request) body() json.RawMessage {
	delete(q, "type")
	if _, found := q["identifier"]; !found {
		q["identifier"], _ = json.Marshal(uuid.NewString()) // a string
	}
	body, _ := json.Marshal(q) // it was read from JSON
	return body
}
