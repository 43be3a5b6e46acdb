package artifact_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	plan := func(p map[string]any) answer {
		t.Helper()
		before := tree(t, f.home)
		a := f.do(t.Context(), call{task: "p", action: tasker.Plan, payload: p})
		if diff := cmp.Diff(before, tree(t, f.home)); diff != "" {
			t.Errorf("a plan has changed something:\n%s", diff)
		}
		return a
	}
	a := plan(f.payload("1.0", nil))
	if a.err != nil || !a.Plan || !a.Changed || a.Current != "" || a.To != "1.0" {
		t.Errorf("got %+v, %v", a.Outcome, a.err)
	}
	if a = plan(f.payload("1.0", files{"more": strings.Repeat("x", 100)})); !strings.Contains(strings.Join(a.Would, "\n"), "/mirror/1.0.tar.gz (") {
		t.Errorf("got %q", a.Would)
	}
	f.deploys("t0", "0.9", nil)
	f.deploys("t1", "1.0", nil)
	a = plan(f.payload("1.0", nil))
	f.is(a, artifact.Outcome{Plan: true, From: "1.0", To: "1.0", Current: "1.0", Note: "1.0 is current already"})
	p := f.payload("1.1", nil)
	p["keep"] = 2
	fi, err := os.Stat(f.home + "/mirror/1.1.tar.gz")
	must(err)
	a = plan(p)
	f.is(a, artifact.Outcome{Plan: true, Changed: true, From: "1.0", To: "1.1", Current: "1.0", Would: []string{
		fmt.Sprintf("download file://%s/mirror/1.1.tar.gz (%d B)", f.home, fi.Size()),
		"unpack it into " + f.app() + "/releases/1.1", "run the hook bin/hook before", "switch from 1.0 to 1.1", "restart app.service",
		"run the hook bin/hook after", "check whether it is healthy, and if not switch back to 1.0", "remove the release 0.9",
	}})
	f.fails(plan(map[string]any{"url": "file:///no/such.zip", "sha256": p["sha256"], "version": "2", "directory": f.app()}), "no such file")
	p["max_size"] = 10
	f.fails(plan(p), "max_size is 10")
}

// tree is all that is below a directory, with when it was changed.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil && !strings.Contains(path, "/mirror/") {
			all = append(all, fmt.Sprint(path, fi.Mode(), fi.ModTime().UnixNano()))
		}
		return err
	}))
	return all
}

func TestUndo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	undo := func(task string, version string, files files) answer {
		return f.do(t.Context(), call{task: "u" + task, action: tasker.Undo, undoes: task, payload: f.payload(version, files)})
	}
	f.is(undo("t1", "1.0", nil), artifact.Outcome{Note: "the task has changed nothing here, or was undone already"})
	f.deploys("t1", "1.0", nil)
	f.deploys("t2", "1.1", nil)
	f.deploys("t3", "1.2", nil)
	a := undo("t2", "1.1", nil)
	f.fails(a, "1.2 is current, which another task has deployed since; undo that task first, or deploy 1.0 by a task")
	a = undo("t3", "1.2", nil)
	f.is(a, artifact.Outcome{Changed: true, From: "1.2", To: "1.1", Current: "1.1"})
	f.saysLast(a, "1.1 is current")
	f.serves("1.1")
	a = undo("t3", "1.2", nil)
	if a.err != nil || a.Changed || a.Note == "" {
		t.Errorf("undone again: %+v", a)
	}
	f.saysLast(a, "the task has changed nothing here, or was undone already")
	// The old one does not work: it is said, and may be tried again.
	broken := filepath.Join(f.app(), "releases/1.0/broken")
	must(os.WriteFile(broken, nil, 0o600))
	a = undo("t2", "1.1", nil)
	f.fails(a, "1.0 is current again, but does not work: app.service did not become active")
	f.is(a, artifact.Outcome{Changed: true, From: "1.1", To: "1.0", Current: "1.0", Step: "restart"})
	must(os.Remove(broken))
	if a = undo("t2", "1.1", nil); a.err != nil {
		t.Error(a.err)
	}
	f.serves("1.0")
	a = undo("t1", "1.0", nil)
	f.is(a, artifact.Outcome{Changed: true, From: "1.0"})
	f.saysLast(a, "no release is current")
	f.serves("")

	f.deploys("t5", "1.0", nil)
	f.deploys("t6", "1.1", nil)
	must(os.RemoveAll(f.app() + "/releases/1.0"))
	a = undo("t6", "1.1", nil)
	f.fails(a, "the release before, 1.0, is gone: it was removed since; deploy it by a task (1.1 stays current)")
	f.is(a, artifact.Outcome{From: "1.1", To: "1.0", Current: "1.1", Step: "enter"})
	f.serves("1.1")
}
