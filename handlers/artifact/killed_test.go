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

// An agent that is killed at whatever step is followed by one that is given the
// same assignment again, and ends it as if nothing had been. Then one that is given
// another.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		files  files
		undo   bool
		first  bool // no release is there before
		steps  int  // at the least
		serves string
		err    string
	}{
		{name: "good", steps: 10, serves: "1.1"},
		{name: "the first", steps: 10, first: true, serves: "1.1"},
		{name: "sick", files: files{"sick": ""}, steps: 12, serves: "1.0", err: "switched back to 1.0, which works, because 1.1 is not healthy"},
		{name: "the first is sick", files: files{"sick": ""}, first: true, steps: 11, err: "switched back to no release"},
		{name: "undo", undo: true, steps: 5, serves: "1.0"},
		{name: "undo of the first", undo: true, first: true, steps: 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for n, at := 1, true; at; n++ {
				if at = killedAt(t, n, tt.files, tt.undo, tt.first, tt.serves, tt.err); !at && n <= tt.steps {
					t.Errorf("there were only %d steps", n-1)
				}
			}
		})
	}
}

// killedAt says whether there was such a step.
func killedAt(t *testing.T, n int, content files, undo, first bool, serves, wantErr string) bool {
	t.Helper()
	f := newFixture(t)
	if !first {
		f.quickly("t1", "1.0")
	}
	c := call{task: "t2", payload: f.payload("1.1", content)}
	if undo {
		f.quickly("t2", "1.1")
		c.task, c.action, c.undoes = "t3", tasker.Undo, "t2"
	}
	if !f.kill(n, c) {
		return false
	}
	where := fmt.Sprintf("killed at step %d", n)
	if link, err := os.Readlink(f.app() + "/current"); err == nil {
		if _, err := os.Stat(filepath.Join(f.app(), link, "VERSION")); err != nil {
			t.Errorf("%s: current leads to what is not complete: %v", where, err)
		}
	}
	if !first {
		f.kill(n, c) // The one that follows as well.
	}
	a := f.do(t.Context(), c)
	if wantErr == "" && a.err != nil || wantErr != "" && (a.err == nil || !strings.Contains(a.err.Error(), wantErr)) {
		t.Errorf("%s: got %v, want %q\n%s", where, a.err, wantErr, a.output)
	}
	if wantErr == "" && !a.Changed && !undo || wantErr != "" && a.Changed || a.Current != serves {
		t.Errorf("%s: got %+v", where, a.Outcome)
	}
	f.serves(serves)
	f.quickly("t9", "2.0")
	return true
}

// kill runs a call in a process that is killed at a step, and says whether it was.
func (f fixture) kill(n int, c call) bool {
	f.t.Helper()
	request, err := json.Marshal(map[string]any{"task": c.task, "action": c.action, "undoes": c.undoes, "payload": c.payload})
	must(err)
	cmd := exec.Command(os.Args[0], "killed", f.home, fmt.Sprint(n), string(request)) //nolint:gosec // this test
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("%v\n%s", err, out)
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.Signaled()
}

// An agent that was killed while it had another version current, which nobody saw
// working: that is never what is switched back to.
func TestGoesBackToWhatWorked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.quickly("t1", "1.0")
	for n := 1; ; n++ {
		if !f.kill(n, call{task: "t2", payload: f.payload("1.1", files{"sick": ""})}) {
			t.Fatal("it was never killed after the switch")
		}
		if link, err := os.Readlink(f.app() + "/current"); err == nil && link == "releases/1.1" {
			break
		}
	}
	a := f.do(t.Context(), call{task: "t3", payload: f.payload("1.2", files{"broken": ""})})
	f.fails(a, "switched back to 1.0, which works")
	f.serves("1.0")
}

// An agent that stops leaves its work to the next one.
func TestStopsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, content := range []files{nil, {"sick": ""}} {
		for n := 1; ; n++ {
			f := newFixture(t)
			f.quickly("t1", "1.0")
			ctx, cancel := context.WithCancelCause(t.Context())
			left := n
			c := call{task: "t2", payload: f.payload("1.1", content), progress: func(string) {
				if left--; left == 0 {
					cancel(handlers.ErrStopping)
				}
			}}
			stopped := f.do(ctx, c)
			cancel(nil)
			if left > 0 {
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

// What is noted of a switch before the link is switched does no harm if it stays so.
func TestKilledBetweenNoteAndLink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ task, version, from string }{
		"the same task": {"t2", "1.1", "1.0"}, "another": {"t3", "1.2", "1.0"}, "back to what is": {"t3", "1.0", "1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.quickly("t0", "1.1")
			f.quickly("t1", "1.0")
			must(os.WriteFile(f.app()+"/.tasker/switch.json", []byte(`{"task":"t2","attempt":1,"from":"1.0","to":"1.1"}`), 0o600))
			a := f.deploys(c.task, c.version, nil)
			if !a.Changed || a.From != c.from {
				t.Errorf("got %+v", a.Outcome)
			}
		})
	}
}
