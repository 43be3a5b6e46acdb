package main

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

// A handler that is not built in is assumed to be able to undo.
func TestAPITypes_undo(t *testing.T) {
	t.Parallel()
	c := &config.ControlPlane{}
	for _, handler := range []string{"ping", "command", "script", "rotate-logs"} {
		c.TaskTypes = append(c.TaskTypes, config.TaskType{Name: "a-" + handler, Handler: handler})
	}
	types, err := apiTypes(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		canUndo      bool
		undoRequires string
	}{{false, ""}, {true, "undo"}, {true, ""}, {true, ""}} {
		if got := types[i]; got.CanUndo != want.canUndo || got.UndoRequires != want.undoRequires {
			t.Errorf("%s: CanUndo %v, UndoRequires %q; want %+v", got.Name, got.CanUndo, got.UndoRequires, want)
		}
	}
}

func TestTypesRefusePayloadsThatNoAgentPerforms(t *testing.T) {
	t.Parallel()
	types, err := apiTypes(&config.ControlPlane{TaskTypes: []config.TaskType{{Name: "file", Handler: "file"}}})
	if err != nil {
		t.Fatal(err)
	}
	for payload, valid := range map[string]bool{
		`{"path":"/a/b","content":""}`:               true,
		`{"path":"/a/b","content":"","template":""}`: false,
		`{"path":"/a/b"}`:                            false,
	} {
		if err := types[0].Validate(json.RawMessage(payload)); (err == nil) != valid {
			t.Errorf("%s: %v", payload, err)
		}
	}
}
