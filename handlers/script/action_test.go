package script_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestActions(t *testing.T) {
	t.Parallel()
	const report = `echo "::result {\"action\":\"$TASKER_ACTION\",\"undoes\":\"$TASKER_UNDOES\"}"` + "\n"
	const nothing = `{"changed":false,"note":"nothing to undo: the task has run nothing here, was undone, or is too long ago"}`
	type step struct {
		action      tasker.Action
		result, err string
	}
	for name, tt := range map[string]struct {
		script string
		steps  []step
	}{
		"both": {"# tasker: restart=retry plan=yes undo=yes\n" + report, []step{
			{tasker.DryRun, `{"action":"plan","undoes":""}`, ""},
			{tasker.Undo, nothing, ""},
			{tasker.Perform, `{"action":"perform","undoes":""}`, ""},
			{tasker.Undo, `{"action":"undo","undoes":"task-1"}`, ""},
			{tasker.Undo, nothing, ""},
		}},
		"neither": {"# tasker: restart=retry plan=no\n" + report, []step{
			{tasker.DryRun, `{"plan":true,"note":"not run: the script does not support dry runs; a script that does has \"plan=yes\" in its header"}`, ""},
			{tasker.Perform, `{"action":"perform","undoes":""}`, ""},
			{tasker.Undo, "null", "# tasker: restart=retry undo=yes"},
		}},
		"failed undo can be repeated": {"# tasker: undo=yes\n[ $TASKER_ACTION = perform ] || { echo why >&2; exit 3; }\n", []step{
			{tasker.Perform, "null", ""},
			{tasker.Undo, "null", "why"},
			{tasker.Undo, "null", "why"},
		}},
		"failed task can be undone": {"# tasker: undo=yes\necho ::result 1; [ $TASKER_ACTION = undo ]\n", []step{
			{tasker.Perform, "1", "exit code 1"},
			{tasker.Undo, "1", ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.write("update-app", "#!/bin/sh\n"+tt.script, 0o755)
			for i, s := range tt.steps {
				got := f.call(t.Context(), s.action, "update-app", `{}`)
				value, err := json.Marshal(got.result.Value)
				if err != nil {
					t.Fatal(err)
				}
				if string(value) != s.result || (got.err != nil) != (s.err != "") || got.err != nil && !strings.Contains(got.err.Error(), s.err) {
					t.Errorf("step %d: got %s, %v, want %s, %q", i, value, got.err, s.result, s.err)
				}
			}
		})
	}
}

func TestUndoSkipsTaskThatWasNotStarted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("update-app", "#!/no/such\n# tasker: undo=yes\n", 0o755)
	if got := f.run(t.Context(), "update-app", `{}`); got.err == nil {
		t.Errorf("got %+v", got)
	}
	f.write("update-app", "#!/bin/sh\n# tasker: undo=yes\necho ran\n", 0o755)
	if got := f.call(t.Context(), tasker.Undo, "update-app", `{}`); got.err != nil || got.out != "" {
		t.Errorf("got %+v", got)
	}
	var reject *handlers.RejectError
	if got := f.call(t.Context(), tasker.Undo, "none", `{}`); !errors.As(got.err, &reject) {
		t.Errorf("got %+v", got)
	}
}
