package artifact_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

func TestUndo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	undo := func(task string, version string, files files) result {
		return f.do(t.Context(), call{task: "u" + task, action: tasker.Undo, undoes: task, payload: f.payload(version, files)})
	}
	f.wantOutcome(undo("t1", "1.0", nil), artifact.Outcome{Note: "the task has changed nothing here, or was undone already"})
	f.deploy("t1", "1.0", nil)
	f.deploy("t2", "1.1", nil)
	f.deploy("t3", "1.2", nil)
	a := undo("t2", "1.1", nil)
	f.wantError(a, "1.2 is current, which another task has deployed since; undo that task first, or deploy 1.0 by a task")
	a = undo("t3", "1.2", nil)
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.2", To: "1.1", Current: "1.1"})
	f.wantLastLine(a, "1.1 is current")
	f.wantCurrent("1.1")
	a = undo("t3", "1.2", nil)
	if a.err != nil || a.Changed || a.Note == "" {
		t.Errorf("undone again: %+v", a)
	}
	f.wantLastLine(a, "the task has changed nothing here, or was undone already")
	// The undo fails if the old release does not work, and can be repeated.
	broken := filepath.Join(f.app(), "releases/1.0/broken")
	must(os.WriteFile(broken, nil, 0o600))
	a = undo("t2", "1.1", nil)
	f.wantError(a, "1.0 is current again, but does not work: app.service did not become active")
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.1", To: "1.0", Current: "1.0", Step: "restart"})
	must(os.Remove(broken))
	if a = undo("t2", "1.1", nil); a.err != nil {
		t.Error(a.err)
	}
	f.wantCurrent("1.0")
	a = undo("t1", "1.0", nil)
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.0"})
	f.wantLastLine(a, "no release is current")
	f.wantCurrent("")

	f.deploy("t5", "1.0", nil)
	f.deploy("t6", "1.1", nil)
	must(os.RemoveAll(f.app() + "/releases/1.0"))
	a = undo("t6", "1.1", nil)
	f.wantError(a, "the release before, 1.0, is gone: it was removed since; deploy it by a task (1.1 stays current)")
	f.wantOutcome(a, artifact.Outcome{From: "1.1", To: "1.0", Current: "1.1", Step: "enter"})
	f.wantCurrent("1.1")
}
