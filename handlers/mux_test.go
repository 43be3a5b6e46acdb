package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

type update struct {
	Version string            `json:"version" jsonschema:"what to install"`
	Hosts   []string          `json:"hosts,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Wait    tasker.Duration   `json:"wait,omitzero"`
	Extra   json.RawMessage   `json:"extra,omitempty"`
	Retry   *int              `json:"retry,omitempty"`
}

func newUpdate(name string) handlers.Handler {
	return handlers.Typed(handlers.Info{Name: name},
		func(_ context.Context, p update, _ handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: p.Version}, nil
		})
}

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	mux, err := handlers.NewMux(newUpdate("update"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ payload, want string }{
		{`{"version":"1"}`, ""},
		{`{"version":"1","hosts":["a"],"labels":{"a":"b"},"wait":"10s","extra":[1],"retry":3}`, ""},
		{`{"version":"1","wait":3}`, ""},
		{`{}`, "payload.version: is missing"},
		{``, "payload.version: is missing"},
		{`null`, "payload: must be an object, not null"},
		{`[]`, "payload: must be an object, not an array"},
		{`{"version":1}`, "payload.version: must be a string, not a number"},
		{`{"version":"1","hosts":"a"}`, "payload.hosts: must be null or an array, not a string"},
		{`{"version":"1","hosts":["a",2]}`, "payload.hosts[1]: must be a string, not a number"},
		{`{"version":"1","labels":{"a.b":true}}`, `payload.labels["a.b"]: must be a string, not a boolean`},
		{`{"version":"1","retry":1.5}`, "payload.retry: must be null or an integer, not a number"},
		{`{"version":"1","ver":"2"}`, "payload.ver: is not known; known fields are extra, hosts, labels, retry, version, wait"},
		{`{"x":1,"hosts":{}}`, "payload.version: is missing; payload.hosts: must be null or an array, not an object; payload.x: is not known; known fields are extra, hosts, labels, retry, version, wait"},
		{`{"version":`, "payload: is not JSON: unexpected EOF"},
		{`{} {}`, "payload: is more than one JSON value"},
	}
	for _, tt := range tests {
		t.Run(tt.payload, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := mux.Validate("update", json.RawMessage(tt.payload)); err != nil {
				got = err.Error()
				var pe *handlers.PayloadError
				if !errors.As(err, &pe) {
					t.Errorf("got a %T, want a *PayloadError", err)
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestValidateExplainsHandwrittenSchemas(t *testing.T) {
	t.Parallel()
	tests := []struct{ schema, payload, want string }{
		{``, `3`, ""},
		{`null`, `"x"`, ""},
		{`true`, `"x"`, ""},
		{`{"type":"string","minLength":2}`, `"x"`, "payload: has 1 character, but must have at least 2"},
		{`{"properties":{"n":{"type":"integer","minimum":3}}}`, `{"n":2}`, "payload.n: is 2, but must be at least 3"},
		{`{"maximum":1099511627776}`, `1099511627777`, "payload: is 1099511627777, but must be at most 1099511627776"},
		{`{"maxLength":1}`, `"äöü"`, "payload: has 3 characters, but must have at most 1"},
		{`{"pattern":"^[0-9a-f]{64}$"}`, `"abc"`, `payload: is "abc", which does not match ^[0-9a-f]{64}$`},
		{`{"maxItems":1}`, `[1,2]`, "payload: has 2 items, but must have at most 1"},
		{`{"maxProperties":1}`, `{"a":1,"b":2}`, "payload: has 2 fields, but must have at most 1"},
		{`{"oneOf":[{"required":["http"]},{"required":["tcp"]}]}`, `{}`, "payload: must have exactly one of http, tcp"},
		{`{"oneOf":[{"required":["http"]},{"required":["tcp"]}]}`, `{"http":1,"tcp":2}`, "payload: must have exactly one of http, tcp"},
		{
			`{"$defs":{"argv":{"minItems":1,"prefixItems":[{"pattern":"^[^/]"}]}},"properties":{"a":{"$ref":"#/$defs/argv"}}}`,
			`{"a":[]}`, "payload.a: has 0 items, but must have at least 1",
		},
		{
			`{"$defs":{"argv":{"minItems":1,"prefixItems":[{"pattern":"^[^/]"}]}},"properties":{"a":{"$ref":"#/$defs/argv"}}}`,
			`{"a":["/bin/true"]}`, `payload.a[0]: is "/bin/true", which does not match ^[^/]`,
		},
		{`{"properties":{"a":{"enum":["x","y"]}}}`, `{"a":"z"}`, `payload.a: must be one of ["x","y"]`},
		{`{"$defs":{"p":{"type":"integer"}},"properties":{"a":{"items":{"$ref":"#/$defs/p"}}}}`, `{"a":[1,"z"]}`, `payload.a[1]: `},
		{`{"properties":{"a":{"items":{"minItems":1}}}}`, `{"a":[[]]}`, `payload.a[0]: has 0 items, but must have at least 1`},
		{`{"additionalProperties":false}`, `{"a":1}`, `payload.a: is not known; no fields are allowed`},
		{`{"oneOf":[{"type":"string"},{"type":"number"}]}`, `[]`, `payload: oneOf`},
	}
	for _, tt := range tests {
		t.Run(tt.schema, func(t *testing.T) {
			t.Parallel()
			s, err := handlers.CompileSchema(json.RawMessage(tt.schema))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Validate(json.RawMessage(tt.payload))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
	for _, bad := range []string{`{`, `3`, `{"type":3}`, `{"$ref":"#/nowhere"}`} {
		if _, err := handlers.CompileSchema(json.RawMessage(bad)); err == nil {
			t.Errorf("schema %s compiled", bad)
		}
	}
}

func TestTypedDecodesStrictly(t *testing.T) {
	t.Parallel()
	h := newUpdate("update")
	got, err := h.Handle(t.Context(), handlers.Call{Payload: json.RawMessage(`{"version":"7"}`)})
	if err != nil || got.Value != "7" {
		t.Errorf("got %v, %v", got.Value, err)
	}
	for _, bad := range []string{`{"version":7}`, `{"nope":1}`, `[]`} {
		_, err := h.Handle(t.Context(), handlers.Call{Payload: json.RawMessage(bad)})
		var reject *handlers.RejectError
		if !errors.As(err, &reject) {
			t.Errorf("%s: got %v, want a rejection", bad, err)
		}
	}
}

type scriptHandler struct {
	handlers.Handler
	scripts []string
}

func (h scriptHandler) Scripts() []string { return h.scripts }

func (h scriptHandler) RestartOf(taskType string) handlers.Restart {
	if taskType == "again" {
		return handlers.RestartRetry
	}
	return ""
}

func TestMux(t *testing.T) {
	t.Parallel()
	mux, err := handlers.NewMux(newUpdate("b"), scriptHandler{newUpdate("a"), []string{"y", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := mux.Names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Names() = %v", got)
	}
	if got := mux.Scripts(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("Scripts() = %v", got)
	}
	if _, ok := mux.Lookup("a"); !ok {
		t.Error("a is not found")
	}
	if _, ok := mux.Lookup("c"); ok {
		t.Error("c is found")
	}
	if err := mux.Validate("c", nil); !errors.Is(err, handlers.ErrUnknown) {
		t.Errorf("Validate of an unknown handler: %v", err)
	}
	for _, tt := range []struct {
		handler, taskType string
		want              handlers.Restart
	}{
		{"a", "again", handlers.RestartRetry},
		{"a", "other", handlers.RestartNever},
		{"b", "again", handlers.RestartNever},
		{"c", "again", handlers.RestartNever},
	} {
		if got := mux.Restart(tt.handler, tt.taskType); got != tt.want {
			t.Errorf("Restart(%s, %s) = %s, want %s", tt.handler, tt.taskType, got, tt.want)
		}
	}
}

func TestNewMuxRefusesInvalidHandlers(t *testing.T) {
	t.Parallel()
	none := func(context.Context, any, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil }
	for name, hs := range map[string][]handlers.Handler{
		"duplicate name":          {newUpdate("a"), newUpdate("a")},
		"no name":                 {newUpdate("")},
		"bad schema":              {handlers.Typed(handlers.Info{Name: "a", Schema: json.RawMessage(`{`)}, none)},
		"unknown contract":        {handlers.Typed(handlers.Info{Name: "a", Restart: "always"}, none)},
		"detached without resume": {handlers.Typed(handlers.Info{Name: "a", Detached: true, Restart: handlers.RestartRetry}, none)},
	} {
		if _, err := handlers.NewMux(hs...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
