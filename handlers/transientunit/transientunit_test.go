package transientunit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseExit(t *testing.T) {
	t.Parallel()
	tests := []struct{ record, want string }{
		{"success exited 0\n", ""},
		{"exit-code exited 100\n", "exit code 100"},
		{"oom-kill killed KILL\n", "killed by SIGKILL (oom-kill)"},
		{"core-dump dumped SEGV\n", "killed by SIGSEGV (core-dump)"},
		{"", ErrLost.Error()},
		{"protocol  \n", ErrLost.Error()},
		{"exit-code exited x\n", ErrLost.Error()},
	}
	for _, tt := range tests {
		exit, err := parseExit(tt.record)
		if err == nil {
			err = exit.Err()
		}
		if got := err; got == nil && tt.want != "" || got != nil && (tt.want == "" || !strings.HasPrefix(got.Error(), tt.want)) {
			t.Errorf("%q: got %v, want %q", tt.record, got, tt.want)
		}
	}
}

func TestFindReportsNothingForUnknownUnit(t *testing.T) {
	t.Parallel()
	r := &Runner{Dir: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)}
	if _, started, err := r.Find(t.Context(), "none"); started || err != nil {
		t.Errorf("started %v, %v", started, err)
	}
	if err := r.Start(t.Context(), Spec{Name: "../x", Argv: []string{"/bin/true"}}); err == nil {
		t.Error("Start accepted a name that contains a path")
	}
}

// fixture is a Runner and the name of one unit for one test.
type fixture struct {
	*Runner
	t    *testing.T
	name string
	out  syncbuffer.Buffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	if err := Available(); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root and systemd (%v); TestTransientUnits in test/hosts runs this test on a host", err)
	}
	dir, err := os.MkdirTemp("/var/lib", "tasker test-") // systemd may have another /tmp
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		Runner: &Runner{Dir: filepath.Join(dir, "units"), Grace: 500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		t:      t, name: "tasker-test-" + strconv.FormatInt(time.Now().UnixNano(), 36),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(handlers.ErrCancelled)
		_, _ = f.Follow(ctx, f.name, &f.out, 0)
		_ = os.RemoveAll(dir)
	})
	return f
}

func (f *fixture) start(script string, args ...string) {
	f.t.Helper()
	err := f.Start(f.t.Context(), Spec{
		Name: f.name, Description: "a test", Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...),
		Env: []string{"PATH=/usr/bin:/bin", "GREETING=hello $you 100%"}, Note: []byte("noted"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// waitForOutput waits until the unit has printed a text.
func (f *fixture) waitForOutput(text string) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(f.out.String(), text); {
		if time.Now().After(deadline) {
			f.t.Fatalf("%q was not printed: %s", text, f.out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestFollowReturnsOutputAndExit(t *testing.T) {
	f := newFixture(t)
	f.start(`printf '%s|' "$GREETING" "$@" "$$" >&2; env | grep TASKER_; echo out; exit 7`, "$HOME ${PATH}", "%n", "two\nlines")
	exit, err := f.Follow(t.Context(), f.name, &f.out, 0)
	if err != nil || exit.Code != 7 || exit.Result != "exit-code" {
		t.Errorf("%+v, %v", exit, err)
	}
	want := "hello $you 100%|$HOME ${PATH}|%n|two\nlines|"
	if got := f.out.String(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "|out\n") {
		t.Errorf("got  %q\nwant %q…out", got, want)
	}
	// The directory outlives the unit, for the next agent process.
	var rest bytes.Buffer
	exit, err = f.Follow(t.Context(), f.name, &rest, int64(len(f.out.String())-4))
	if err != nil || exit.Code != 7 || rest.String() != "out\n" {
		t.Errorf("%+v, %v, %q", exit, err, rest.String())
	}
	if note, started, err := f.Find(t.Context(), f.name); string(note) != "noted" || !started || err != nil {
		t.Errorf("note %q, started %v, %v", note, started, err)
	}
	if s, err := stateOf(t.Context(), f.name); err != nil || s.alive {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFollowReportsMissingProgram(t *testing.T) {
	f := newFixture(t)
	if err := f.Start(t.Context(), Spec{Name: f.name, Argv: []string{"/nonexistent"}, Note: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	exit, err := f.Follow(t.Context(), f.name, &f.out, 0)
	if err != nil || exit.Code != 203 {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestStartRefusesNameInUse(t *testing.T) {
	f := newFixture(t)
	f.start(`echo begun; exec sleep 86415`)
	f.Dir = filepath.Join(f.Dir, "other")
	if err := f.Start(t.Context(), Spec{Name: f.name, Argv: []string{"/bin/true"}}); err == nil {
		t.Error("Start replaced a running unit")
	}
	if _, started, err := f.Find(t.Context(), f.name); !started || err != nil {
		t.Errorf("started %v, %v; want true, because a unit of that name runs", started, err)
	}
	f.Dir = filepath.Dir(f.Dir)
}

func TestCancelDuringStartIsNotLost(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(handlers.ErrCancelled)
	err := f.Start(ctx, Spec{Name: f.name, Argv: []string{"/bin/sleep", "86415"}, Env: []string{"PATH=/usr/bin:/bin"}})
	if err != nil {
		t.Fatalf("Start = %v, want nil, because the unit may run", err)
	}
	if _, err := f.Follow(ctx, f.name, &f.out, 0); !errors.Is(err, handlers.ErrCancelled) {
		t.Errorf("Follow = %v, want %v", err, handlers.ErrCancelled)
	}
	if s, err := stateOf(t.Context(), f.name); err != nil || s.alive {
		t.Errorf("%+v, %v: the unit still runs", s, err)
	}
}

// When the agent stops, the unit continues and the next agent process follows it.
func TestUnitOutlivesFollower(t *testing.T) {
	f := newFixture(t)
	release := filepath.Join(f.Dir, "go")
	f.start(`echo begun; until [ -e "$1" ]; do sleep 0.05; done; echo done`, release)
	ctx, cancel := context.WithCancelCause(t.Context())
	followed := make(chan error, 1)
	go func() {
		_, err := f.Follow(ctx, f.name, &f.out, 0)
		followed <- err
	}()
	f.waitForOutput("begun")
	cancel(handlers.ErrStopping)
	if err := <-followed; !errors.Is(err, handlers.ErrStopping) {
		t.Errorf("got %v", err)
	}
	if names, err := f.Alive(t.Context(), f.name[:len(f.name)-1]); err != nil || len(names) != 1 || names[0] != f.name {
		t.Errorf("alive are %v, %v", names, err)
	}
	if _, started, err := f.Find(t.Context(), f.name); !started || err != nil {
		t.Errorf("started %v, %v", started, err)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, err := f.Follow(t.Context(), f.name, &f.out, int64(len("begun\n")))
	if err != nil || exit.Err() != nil || f.out.String() != "begun\ndone\n" {
		t.Errorf("%+v, %v, %q", exit, err, f.out.String())
	}
}

// A process that ignores SIGTERM and a detached one have ended when Follow returns.
func TestCancelEmptiesCgroup(t *testing.T) {
	f := newFixture(t)
	f.Grace = 10 * time.Second // for the trap to print
	f.start(`trap 'echo terminated' TERM; setsid sleep 86413 & echo begun; while :; do sleep 86414 & wait; done`)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	type result struct {
		exit Exit
		err  error
	}
	results := make(chan result, 1)
	go func() {
		exit, err := f.Follow(ctx, f.name, &f.out, 0)
		results <- result{exit, err}
	}()
	f.waitForOutput("begun")
	s, err := stateOf(t.Context(), f.name)
	if err != nil || !hasProcesses(s.cgroup) {
		t.Fatalf("%+v, %v: the cgroup has no processes", s, err)
	}
	cancel(handlers.ErrTimedOut)
	got := <-results
	if !errors.Is(got.err, handlers.ErrTimedOut) || got.exit.Signal != "SIGKILL" {
		t.Errorf("%+v", got)
	}
	if hasProcesses(s.cgroup) {
		t.Error("the cgroup still has processes")
	}
	if !strings.Contains(f.out.String(), "terminated") {
		t.Errorf("the command got no SIGTERM: %q", f.out.String())
	}
}

// Without a recorded exit, as after a power failure, the exit is unknown.
func TestFollowReportsLostExit(t *testing.T) {
	f := newFixture(t)
	f.start(`echo begun; : >"$1"`, filepath.Join(f.Dir, f.name, "record"))
	if _, err := f.Follow(t.Context(), f.name, &f.out, 0); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if f.out.String() != "begun\n" {
		t.Errorf("printed %q", f.out.String())
	}
}
