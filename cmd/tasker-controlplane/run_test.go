package main

import (
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
