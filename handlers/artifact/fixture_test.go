package artifact_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

// fixture is the server of one test.
type fixture struct {
	*server
	t *testing.T
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(home)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{s, t}
}

// deploy performs a task, which must succeed.
func (f fixture) deploy(task, version string, files map[string]string) result {
	f.t.Helper()
	a := f.do(f.t.Context(), call{task: task, payload: f.payload(version, files)})
	if a.err != nil {
		f.t.Fatalf("deploy %s: %v\n%s", version, a.err, a.output)
	}
	f.wantCurrent(version)
	return a
}

// deployPlain performs a task without hooks and health check, which must succeed.
func (f fixture) deployPlain(task, version string) {
	f.t.Helper()
	p := f.payload(version, nil)
	delete(p, "hooks")
	delete(p, "health")
	if a := f.do(f.t.Context(), call{task: task, payload: p}); a.err != nil {
		f.t.Fatalf("deploy %s: %v\n%s", version, a.err, a.output)
	}
	f.wantCurrent(version)
}

// wantError checks that a call failed with an error that contains a text.
func (f fixture) wantError(a result, want string) {
	f.t.Helper()
	if a.err == nil || !strings.Contains(a.err.Error(), want) {
		f.t.Errorf("got %v, want …%s…\n%s", a.err, want, a.output)
	}
}

// wantCurrent checks that a version is current and runs, and that no temporary files are
// left. An empty version is none.
func (f fixture) wantCurrent(version string) {
	f.t.Helper()
	target, err := os.Readlink(filepath.Join(f.app(), "current"))
	if version == "" {
		if !errors.Is(err, fs.ErrNotExist) {
			f.t.Errorf("current points to %q, %v", target, err)
		}
	} else if target != "releases/"+version {
		f.t.Errorf("current points to %q, %v, want %s", target, err, version)
	}
	running, err := os.ReadFile(f.running())
	if string(running) != version {
		f.t.Errorf("%q runs, want %q (%v)", running, version, err)
	}
	left, err := fs.Glob(os.DirFS(f.app()), ".tasker/*")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range left {
		if name != ".tasker/lock" && name != ".tasker/releases" {
			f.t.Errorf("%s is left", name)
		}
	}
}

// releases returns the names below releases.
func (f fixture) releases() string {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.app(), "releases"))
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// wantOutcome checks the outcome of a call.
func (f fixture) wantOutcome(a result, want artifact.Outcome) {
	f.t.Helper()
	if diff := cmp.Diff(want, a.Outcome); diff != "" {
		f.t.Errorf("%v; -want +got:\n%s", a.err, diff)
	}
}

// wantLastLine checks the last line of the output, which is also the last progress.
func (f fixture) wantLastLine(a result, want string) {
	f.t.Helper()
	lines := strings.Split(strings.TrimSpace(a.output), "\n")
	if got := lines[len(lines)-1]; got != want {
		f.t.Errorf("the last line is %q, want %q", got, want)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
