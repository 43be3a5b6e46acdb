package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Validator returns a function that checks a payload for the handler: against Schema, and
// then with Check. The function returns nil or a *PayloadError.
func (i Info) Validator() (func(payload json.RawMessage) error, error) {
	schema, err := CompileSchema(i.Schema)
	if err != nil {
		return nil, fmt.Errorf("handler %q: %w", i.Name, err)
	}
	return func(payload json.RawMessage) error {
		if err := schema.Validate(payload); err != nil || i.Check == nil {
			return err
		}
		return asPayloadError(i.Check(payload))
	}, nil
}

// asPayloadError turns a rejection like "payload.cwd: is too long" into a *PayloadError.
func asPayloadError(err error) error {
	var reject *RejectError
	if !errors.As(err, &reject) {
		return err
	}
	path, message, found := strings.Cut(reject.Reason, " ")
	if !found || !strings.HasPrefix(path, "payload") {
		path, message = "payload", reject.Reason
	}
	return &PayloadError{Problems: []Problem{{Path: strings.TrimSuffix(path, ":"), Message: message}}}
}

// CheckOf returns a function for Info.Check that calls check with the payload decoded into
// a P. The error of check is one that Reject makes.
func CheckOf[P any](check func(P) error) func(json.RawMessage) error {
	return func(payload json.RawMessage) error {
		var p P
		if err := json.Unmarshal(payload, &p); err != nil {
			return Reject("payload: %v", err)
		}
		return check(p)
	}
}
