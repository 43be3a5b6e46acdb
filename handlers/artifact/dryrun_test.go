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

func TestDryRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dryRun := func(p map[string]any) result {
		t.Helper()
		before := tree(t, f.home)
		a := f.do(t.Context(), call{task: "p", action: tasker.DryRun, payload: p})
		if diff := cmp.Diff(before, tree(t, f.home)); diff != "" {
			t.Errorf("the dry run has changed something:\n%s", diff)
		}
		return a
	}
	a := dryRun(f.payload("1.0", nil))
	if a.err != nil || !a.DryRun || !a.Changed || a.Current != "" || a.To != "1.0" {
		t.Errorf("got %+v, %v", a.Outcome, a.err)
	}
	if a = dryRun(f.payload("1.0", files{"more": strings.Repeat("x", 100)})); !strings.Contains(strings.Join(a.Would, "\n"), "/mirror/1.0.tar.gz (") {
		t.Errorf("got %q", a.Would)
	}
	f.deploy("t0", "0.9", nil)
	f.deploy("t1", "1.0", nil)
	a = dryRun(f.payload("1.0", nil))
	f.wantOutcome(a, artifact.Outcome{DryRun: true, From: "1.0", To: "1.0", Current: "1.0", Note: "1.0 is already current"})
	p := f.payload("1.1", nil)
	p["keep"] = 2
	fi, err := os.Stat(f.home + "/mirror/1.1.tar.gz")
	must(err)
	a = dryRun(p)
	f.wantOutcome(a, artifact.Outcome{DryRun: true, Changed: true, From: "1.0", To: "1.1", Current: "1.0", Would: []string{
		fmt.Sprintf("download file://%s/mirror/1.1.tar.gz (%d B)", f.home, fi.Size()),
		"unpack it into " + f.app() + "/releases/1.1", "run the hook bin/hook before", "switch from 1.0 to 1.1", "restart app.service",
		"run the hook bin/hook after", "check whether it is healthy, and if not switch back to 1.0", "remove the release 0.9",
	}})
	f.wantError(dryRun(map[string]any{"url": "file:///no/such.zip", "sha256": p["sha256"], "version": "2", "directory": f.app()}), "no such file")
	must(os.WriteFile(f.home+"/masked", nil, 0o600))
	if a = dryRun(p); a.err != nil {
		t.Errorf("with a hook that may change the unit: %v", a.err)
	}
	hooks := p["hooks"]
	delete(p, "hooks")
	f.wantError(dryRun(p), "app.service cannot be used: it is masked")
	p["hooks"] = hooks
	must(os.Remove(f.home + "/masked"))
	p["max_size"] = 10
	f.wantError(dryRun(p), "max_size is 10")
}

// tree returns all files below a directory with their modification times.
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
