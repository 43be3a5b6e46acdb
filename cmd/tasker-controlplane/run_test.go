package main

import (
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

// The API knows of each type what its handler can undo; of a handler that it does not
// know it supposes that it can.
func TestWhatTypesUndo(t *testing.T) {
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
		undoes bool
		needs  string
	}{{false, ""}, {true, "undo"}, {true, ""}, {true, ""}} {
		if got := types[i]; got.CanUndo != want.undoes || got.UndoRequires != want.needs {
			t.Errorf("%s undoes: %v, needs %q; want %+v", got.Name, got.CanUndo, got.UndoRequires, want)
		}
	}
}
