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
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/handlers"
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

func TestNotStartedIsNotFound(t *testing.T) {
	t.Parallel()
	r := &Runner{Dir: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)}
	if _, started, err := r.Find(t.Context(), "none"); started || err != nil {
		t.Errorf("started %v, %v", started, err)
	}
	if err := r.Start(t.Context(), Spec{Name: "../x", Argv: []string{"/bin/true"}}); err == nil {
		t.Error("a name with a path in it was taken")
	}
}

// fixture is a runner of units with a name of the test's own.
type fixture struct {
	*Runner
	t    *testing.T
	name string
	out  lockedBuffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	if err := Available(); err != nil || os.Geteuid() != 0 {
		t.Skipf("left out: needs root and a systemd (%v); the test of the hosts runs it on one", err)
	}
	dir, err := os.MkdirTemp("/var/lib", "tasker test-") // systemd has a /tmp of its own view
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		Runner: &Runner{Dir: filepath.Join(dir, "units"), Grace: 500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		t:      t, name: "tasker-test-" + strconv.FormatInt(time.Now().UnixNano(), 36),
	}
	t.Cleanup(func() {
		_ = stopUnit(context.Background(), f.name)
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

// prints waits until the unit has printed a text.
func (f *fixture) prints(text string) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(f.out.String(), text); {
		if time.Now().After(deadline) {
			f.t.Fatalf("%q was not printed: %s", text, f.out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestUnitKeepsWhatIsSaid(t *testing.T) {
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
	// All is there for the next process, though the unit is not.
	var rest bytes.Buffer
	exit, err = f.Follow(t.Context(), f.name, &rest, int64(len(f.out.String())-4))
	if err != nil || exit.Code != 7 || rest.String() != "out\n" {
		t.Errorf("%+v, %v, %q", exit, err, rest.String())
	}
	if note, started, err := f.Find(t.Context(), f.name); string(note) != "noted" || !started || err != nil {
		t.Errorf("note %q, started %v, %v", note, started, err)
	}
	if s, err := show(t.Context(), f.name); err != nil || s.alive {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestUnitThatCannotRun(t *testing.T) {
	f := newFixture(t)
	if err := f.Start(t.Context(), Spec{Name: f.name, Argv: []string{"/nonexistent"}, Note: []byte("x")}); err == nil {
		// Newer versions of systemd find it only later.
		exit, err := f.Follow(t.Context(), f.name, &f.out, 0)
		if err != nil || exit.Code != 203 {
			t.Errorf("%+v, %v", exit, err)
		}
		return
	}
	if _, started, err := f.Find(t.Context(), f.name); started || err != nil {
		t.Errorf("started %v, %v", started, err)
	}
}

// The agent stops: the unit goes on, and another process follows it to its end.
func TestUnitOutlivesItsFollower(t *testing.T) {
	f := newFixture(t)
	go1 := filepath.Join(f.Dir, "go")
	f.start(`echo begun; until [ -e "$1" ]; do sleep 0.05; done; echo done`, go1)
	ctx, cancel := context.WithCancelCause(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := f.Follow(ctx, f.name, &f.out, 0)
		left <- err
	}()
	f.prints("begun")
	cancel(handlers.ErrStopping)
	if err := <-left; !errors.Is(err, handlers.ErrStopping) {
		t.Errorf("got %v", err)
	}
	if names, err := f.Alive(t.Context(), f.name[:len(f.name)-1]); err != nil || len(names) != 1 || names[0] != f.name {
		t.Errorf("alive are %v, %v", names, err)
	}
	if _, started, err := f.Find(t.Context(), f.name); !started || err != nil {
		t.Errorf("started %v, %v", started, err)
	}
	if err := os.WriteFile(go1, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, err := f.Follow(t.Context(), f.name, &f.out, int64(len("begun\n")))
	if err != nil || exit.Err() != nil || f.out.String() != "begun\ndone\n" {
		t.Errorf("%+v, %v, %q", exit, err, f.out.String())
	}
}

// What ignores SIGTERM, and what has detached itself, is gone when it is said.
func TestCancelEmptiesTheCgroup(t *testing.T) {
	f := newFixture(t)
	f.Grace = 10 * time.Second // to say that it was told
	f.start(`trap 'echo told' TERM; setsid sleep 86413 & echo begun; while :; do sleep 86414 & wait; done`)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	type ended struct {
		exit Exit
		err  error
	}
	end := make(chan ended, 1)
	go func() {
		exit, err := f.Follow(ctx, f.name, &f.out, 0)
		end <- ended{exit, err}
	}()
	f.prints("begun")
	s, err := show(t.Context(), f.name)
	if err != nil || !populated(s.cgroup) {
		t.Fatalf("%+v, %v: it has no processes", s, err)
	}
	cancel(handlers.ErrTimedOut)
	got := <-end
	if !errors.Is(got.err, handlers.ErrTimedOut) || got.exit.Signal != "SIGKILL" {
		t.Errorf("%+v", got)
	}
	if populated(s.cgroup) {
		t.Error("something of it runs")
	}
	if !strings.Contains(f.out.String(), "told") {
		t.Errorf("it got no SIGTERM: %q", f.out.String())
	}
}

// Without a record, as after a power failure, nobody knows.
func TestLostUnit(t *testing.T) {
	f := newFixture(t)
	f.start(`echo begun; : >"$1"`, filepath.Join(f.Dir, f.name, "record"))
	if _, err := f.Follow(t.Context(), f.name, &f.out, 0); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if f.out.String() != "begun\n" {
		t.Errorf("printed %q", f.out.String())
	}
}

// lockedBuffer is a buffer that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
