package command_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
)

// callAction calls the handler with task-1, or with task-2 that undoes task-1.
func callAction(t *testing.T, mux *handlers.Mux, action tasker.Action, payload string) (string, string, error) {
	t.Helper()
	if err := mux.Validate(command.Name, json.RawMessage(payload)); err != nil {
		return "null", "", err
	}
	h, _ := mux.Lookup(command.Name)
	c := handlers.Call{
		TaskID: "task-1", Endpoint: endpoint(), Type: "command", Payload: json.RawMessage(payload), Action: action,
		RecordProcess: func(handlers.Process) error { return nil },
	}
	if action == tasker.Undo {
		c.TaskID, c.Undoes = "task-2", "task-1"
	}
	var out bytes.Buffer
	c.Output = &out
	result, err := h.Handle(t.Context(), c)
	value, jsonErr := json.Marshal(result.Value)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	return string(value), out.String(), err
}

func TestCreatesAndUnlessSkipTheCommand(t *testing.T) {
	t.Parallel()
	mux, err := newEntryMux(t, command.Entry{Argv: []string{"/bin/sh", "-c", "*"}, Creates: []string{"/*", "/etc/hostname/*"}}, command.Entry{Argv: []string{"/no/such"}})
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"argv":["sh","-c","echo ran"],"creates":"/etc"}`:                        `{"changed":false,"note":"not run: /etc exists"}`,
		`{"argv":["sh","-c","echo ran"],"creates":"/none"}`:                       `{"changed":true,"exit_code":0}`,
		`{"argv":["sh","-c","echo ran"],"unless":["sh","-c","exit 0"]}`:           `{"changed":false,"exit_code":0,"note":"not run: the unless command ended with exit code 0"}`,
		`{"argv":["sh","-c","echo ran"],"unless":["sh","-c","exit 1"]}`:           `{"changed":true,"exit_code":0}`,
		`{"argv":["sh","-c","echo ran; exit 3"],"unless":["sh","-c","kill $$"]}`:  `{"changed":true,"exit_code":3}`,
		`{"argv":["sh","-c","echo ran"],"unless":["/no/such"]}`:                   `{"changed":false}`,
		`{"argv":["sh","-c","echo ran"],"creates":"/etc/hostname/x"}`:             `{"changed":false}`,
		`{"argv":["/no/such"],"undo":["/no/such"],"unless":["sh","-c","exit 1"]}`: `{"changed":false}`,
	} {
		got, out, err := callAction(t, mux, tasker.Perform, payload)
		if got != want || (out == "ran\n") != strings.Contains(want, `"changed":true`) {
			t.Errorf("%s: got %s, %q, %v, want %s", payload, got, out, err, want)
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	mux, err := newEntryMux(t, command.Entry{Argv: []string{"/bin/sh", "-c", "*"}, Creates: []string{"/etc"}}, command.Entry{Argv: []string{"/bin/echo", "*"}})
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]struct{ result, out, err string }{
		`{"argv":["sh","-c","echo ran"]}`: {`{"changed":true,"plan":true,"argv":["/bin/sh","-c","echo ran"]}`, "", ""},
		`{"argv":["sh","-c","echo ran"],"unless":["sh","-c","echo ran"]}`: {
			`{"changed":true,"plan":true,"argv":["/bin/sh","-c","echo ran"],"note":"run only if the unless command does not end with exit code 0"}`, "", "",
		},
		`{"argv":["sh","-c","echo ran"],"creates":"/etc","plan":["echo","plan"]}`:  {`{"changed":false,"plan":true,"note":"not run: /etc exists"}`, "", ""},
		`{"argv":["sh","-c","echo ran"],"plan":["echo","would"]}`:                  {`{"changed":true,"exit_code":0,"plan":true,"argv":["/bin/sh","-c","echo ran"]}`, "would\n", ""},
		`{"argv":["sh","-c","echo ran"],"plan":["sh","-c","echo cannot; exit 2"]}`: {`{"changed":true,"exit_code":2,"plan":true,"argv":["/bin/sh","-c","echo ran"]}`, "cannot\n", "exit code 2: cannot"},
		`{"argv":["/bin/true"]}`:                               {"null", "", `add ["/bin/true"]`},
		`{"argv":["echo","a"],"plan":["/bin/true"]}`:           {"null", "", `add ["/bin/true"]`},
		`{"argv":["echo","a"],"unless":["/bin/true"]}`:         {"null", "", `add ["/bin/true"]`},
		`{"argv":["echo","a"],"undo":["/bin/true"]}`:           {"null", "", `add ["/bin/true"]`},
		`{"argv":["echo","a"],"undo":["echo",""],"plan":[""]}`: {"null", "", "payload.plan: names no program"},
		`{"argv":["echo","a"],"undo":["echo","a\u0000"]}`:      {"null", "", "payload.undo: contains a NUL"},
		`{"argv":["echo","a"],"creates":"/etc\u0000"}`:         {"null", "", "contains a NUL"},
	} {
		got, out, err := callAction(t, mux, tasker.DryRun, payload)
		if got != want.result || out != want.out || (err != nil) != (want.err != "") || !strings.Contains(text(err), want.err) {
			t.Errorf("%s: got %s, %q, %v", payload, got, out, err)
		}
	}
}

func TestUndo(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "marker")
	mux, err := newEntryMux(t, command.Entry{Argv: []string{"/bin/sh", "-c", "*"}, Creates: []string{marker}}, command.Entry{Argv: []string{"/no/such"}})
	if err != nil {
		t.Fatal(err)
	}
	payload := `{"argv":["sh","-c","touch ` + marker + `"],"creates":"` + marker + `","undo":["sh","-c","rm ` + marker + `"]}`
	const nothing = `"note":"nothing to undo: the task has run nothing here, was undone, or is too long ago"`
	for i, step := range []struct {
		action tasker.Action
		want   string
	}{
		{tasker.Undo, `{"changed":false,` + nothing + `}`},
		{tasker.Perform, `{"changed":true,"exit_code":0}`},
		{tasker.Undo, `{"changed":true,"exit_code":0}`},
		{tasker.Undo, `{"changed":false,` + nothing + `}`},
	} {
		if got, _, err := callAction(t, mux, step.action, payload); err != nil || got != step.want {
			t.Errorf("step %d: got %s, %v, want %s", i, got, err, step.want)
		}
		if _, err := os.Stat(marker); (err == nil) != (step.action == tasker.Perform) {
			t.Errorf("step %d: the marker: %v", i, err)
		}
	}

	var reject *handlers.RejectError
	if _, _, err := callAction(t, mux, tasker.Undo, `{"argv":["sh","-c","exit 0"]}`); !errors.As(err, &reject) || !strings.Contains(err.Error(), "has no undo command") {
		t.Errorf("without an undo command: %v", err)
	}
	// A failed undo can be repeated. A command that was not started needs no undo.
	failing := `{"argv":["sh","-c","exit 3"],"undo":["sh","-c","exit 4"]}`
	for _, step := range []struct {
		action tasker.Action
		want   string
	}{{tasker.Perform, "exit code 3"}, {tasker.Undo, "exit code 4"}, {tasker.Undo, "exit code 4"}} {
		if got, _, err := callAction(t, mux, step.action, failing); text(err) != step.want || !strings.Contains(got, `"changed":true`) {
			t.Errorf("%s: got %s, %v", step.want, got, err)
		}
	}
	mux, err = newMux(t, []string{"/no/such"})
	if err != nil {
		t.Fatal(err)
	}
	const missing = `{"argv":["/no/such"],"undo":["/no/such"]}`
	if got, _, err := callAction(t, mux, tasker.Perform, missing); err == nil || got != `{"changed":false}` {
		t.Errorf("got %s, %v", got, err)
	}
	if got, _, err := callAction(t, mux, tasker.Undo, missing); err != nil || !strings.Contains(got, nothing) {
		t.Errorf("got %s, %v", got, err)
	}
}
