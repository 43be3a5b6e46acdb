package artifact_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// An agent that is killed at any step is started again with the same assignment, and
// completes it. Then it completes another one.
func TestKillAtEachStep(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files files
		undo  bool
		first bool   // There is no release before.
		steps int    // the minimum
		want  string // the current version at the end
		err   string
	}{
		{name: "good", steps: 10, want: "1.1"},
		{name: "the first", steps: 10, first: true, want: "1.1"},
		{name: "unhealthy", files: files{"unhealthy": ""}, steps: 12, want: "1.0", err: "switched back to 1.0, which works, because 1.1 is not healthy"},
		{name: "the first is unhealthy", files: files{"unhealthy": ""}, first: true, steps: 11, err: "switched back to no release"},
		{name: "undo", undo: true, steps: 5, want: "1.0"},
		{name: "undo of the first", undo: true, first: true, steps: 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for n, killed := 1, true; killed; n++ {
				if killed = killAt(t, n, tt.files, tt.undo, tt.first, tt.want, tt.err); !killed && n <= tt.steps {
					t.Errorf("there were only %d steps", n-1)
				}
			}
		})
	}
}

// killAt kills the agent at step n, and checks the calls that follow. It reports whether
// there was such a step.
func killAt(t *testing.T, n int, content files, undo, first bool, want, wantErr string) bool {
	t.Helper()
	f := newFixture(t)
	if !first {
		f.deployPlain("t1", "1.0")
	}
	c := call{task: "t2", payload: f.payload("1.1", content)}
	if undo {
		f.deployPlain("t2", "1.1")
		c.task, c.action, c.undoes = "t3", tasker.Undo, "t2"
	}
	if !f.kill(n, c) {
		return false
	}
	where := fmt.Sprintf("killed at step %d", n)
	if link, err := os.Readlink(f.app() + "/current"); err == nil {
		if _, err := os.Stat(filepath.Join(f.app(), link, "VERSION")); err != nil {
			t.Errorf("%s: current points to an incomplete release: %v", where, err)
		}
	}
	if !first {
		f.kill(n, c) // Kill the next agent process too.
	}
	a := f.do(t.Context(), c)
	if wantErr == "" && a.err != nil || wantErr != "" && (a.err == nil || !strings.Contains(a.err.Error(), wantErr)) {
		t.Errorf("%s: got %v, want %q\n%s", where, a.err, wantErr, a.output)
	}
	if wantErr == "" && !a.Changed && !undo || wantErr != "" && a.Changed || a.Current != want {
		t.Errorf("%s: got %+v", where, a.Outcome)
	}
	f.wantCurrent(want)
	f.deployPlain("t9", "2.0")
	return true
}

// kill performs a call in a process that is killed at step n. It reports whether it was
// killed.
func (f fixture) kill(n int, c call) bool {
	f.t.Helper()
	request, err := json.Marshal(map[string]any{"task": c.task, "action": c.action, "undoes": c.undoes, "payload": c.payload})
	must(err)
	cmd := exec.Command(os.Args[0], "killed", f.home, fmt.Sprint(n), string(request)) //nolint:gosec // the test binary
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("%v\n%s", err, out)
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.Signaled()
}

// The handler never switches back to a release that did not pass its check because the
// agent was killed.
func TestSwitchBackToConfirmedRelease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deployPlain("t1", "1.0")
	for n := 1; ; n++ {
		if !f.kill(n, call{task: "t2", payload: f.payload("1.1", files{"unhealthy": ""})}) {
			t.Fatal("it was never killed after the switch")
		}
		if link, err := os.Readlink(f.app() + "/current"); err == nil && link == "releases/1.1" {
			break
		}
	}
	a := f.do(t.Context(), call{task: "t3", payload: f.payload("1.2", files{"broken": ""})})
	f.wantError(a, "switched back to 1.0, which works")
	f.wantCurrent("1.0")
}

// An agent that stops at any step leaves the assignment to the next process.
func TestStopAtEachStep(t *testing.T) {
	t.Parallel()
	for _, content := range []files{nil, {"unhealthy": ""}} {
		for n := 1; ; n++ {
			f := newFixture(t)
			f.deployPlain("t1", "1.0")
			ctx, cancel := context.WithCancelCause(t.Context())
			remaining := n
			c := call{task: "t2", payload: f.payload("1.1", content), progress: func(string) {
				if remaining--; remaining == 0 {
					cancel(handlers.ErrStopping)
				}
			}}
			stopped := f.do(ctx, c)
			cancel(nil)
			if remaining > 0 {
				break
			}
			a := f.do(t.Context(), c)
			switch {
			case content == nil && (a.err != nil || !a.Changed || a.From != "1.0"):
				t.Errorf("stopped at step %d with %v, then %+v, %v", n, stopped.err, a.Outcome, a.err)
			case content != nil && (a.err == nil || a.Current != "1.0"):
				t.Errorf("stopped at step %d with %v, then %+v, %v", n, stopped.err, a.Outcome, a.err)
			}
		}
	}
}

// A recorded switch whose link was never switched does no harm.
func TestKillBetweenRecordAndLink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ task, version, from string }{
		"the same task": {"t2", "1.1", "1.0"}, "another task": {"t3", "1.2", "1.0"}, "the current release": {"t3", "1.0", "1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.deployPlain("t0", "1.1")
			f.deployPlain("t1", "1.0")
			must(os.WriteFile(f.app()+"/.tasker/switch.json", []byte(`{"task":"t2","attempt":1,"from":"1.0","to":"1.1"}`), 0o600))
			a := f.deploy(c.task, c.version, nil)
			if !a.Changed || a.From != c.from {
				t.Errorf("got %+v", a.Outcome)
			}
		})
	}
}
