package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

func TestSwitchBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, step, want string
	}{
		{"unhealthy", "unhealthy", "health", "switched back to 1.0, which works, because 1.1 is not healthy: exit code 1; the last lines of the journal of app.service:\npanic:\nout of cheese"},
		{"broken", "broken", "restart", "because app.service did not become active; the last of its journal:\nsegmentation fault"},
		{"hook", "fails-after", "hook after", "because the hook after, bin/hook of 1.1, failed: exit code 1: after 1.1 /"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			bad := func(task string) result {
				return f.do(t.Context(), call{task: task, payload: f.payload("1.1", files{tt.file: ""})})
			}
			a := bad("t0")
			f.wantError(a, "switched back to no release, as there was none before")
			f.wantOutcome(a, artifact.Outcome{To: "1.1", Step: tt.step, SwitchedBack: true})
			f.wantCurrent("")
			f.deploy("t1", "1.0", nil)
			a = bad("t2")
			f.wantError(a, tt.want)
			f.wantOutcome(a, artifact.Outcome{From: "1.0", To: "1.1", Current: "1.0", Step: tt.step, SwitchedBack: true})
			f.wantCurrent("1.0")
			if got := f.releases(); got != "1.0 1.1" {
				t.Errorf("releases are %s: the failed one must stay", got)
			}
			a = f.do(t.Context(), call{task: "t3", action: tasker.Undo, undoes: "t2", payload: f.payload("1.1", files{tt.file: ""})})
			if a.err != nil || a.Changed {
				t.Errorf("the undo changed something: %+v", a)
			}
			f.wantCurrent("1.0")
			// The release before does not work either.
			if err := os.WriteFile(filepath.Join(f.app(), "releases/1.0/broken"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			a = bad("t4")
			f.wantError(a, "switched back to 1.0, which does not work either (app.service did not become active")
			f.wantOutcome(a, artifact.Outcome{From: "1.0", To: "1.1", Current: "1.0", Step: tt.step, SwitchedBack: true})
		})
	}
}

func TestSwitchBackToReleaseWithoutHook(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deploy("t1", "1.0", nil)
	p := f.payload("1.1", files{"unhealthy": "", "bin/new": "#!/bin/sh\n"})
	p["hooks"] = map[string]any{"after": []string{"bin/new"}}
	a := f.do(t.Context(), call{task: "t2", payload: p})
	f.wantError(a, "switched back to 1.0, which works")
	if !strings.Contains(a.output, "skipped: ") {
		t.Errorf("the output is\n%s", a.output)
	}
}

// A task that is cancelled at any step leaves the release before current.
func TestCancelAtEachStep(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		f := newFixture(t)
		f.deployPlain("t1", "1.0")
		ctx, cancel := context.WithCancelCause(t.Context())
		remaining, step := n, ""
		a := f.do(ctx, call{task: "t2", payload: f.payload("1.1", nil), progress: func(message string) {
			if remaining--; remaining == 0 {
				step = message
				cancel(handlers.ErrCancelled)
			}
		}})
		cancel(nil)
		if step == "" {
			if n < 8 {
				t.Errorf("only %d steps", n)
			}
			break
		}
		if a.err == nil {
			f.wantCurrent("1.1") // The cancel came too late.
			continue
		}
		if !errors.Is(a.err, handlers.ErrCancelled) && !strings.Contains(a.err.Error(), "cancelled") {
			t.Errorf("at %q: %v", step, a.err)
		}
		if a.Changed || a.Current != "1.0" && a.Current != "" {
			t.Errorf("at %q: %+v", step, a.Outcome)
		}
		f.deployPlain("t3", "1.2")
	}
}

// The health check is repeated until the release is healthy.
func TestHealthCheckRetries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The port is bound, but something listens on it only later.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	must(err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port) //nolint:errcheck,forcetypeassert // an IPv4 socket
	listening := false
	p := f.payload("1.0", nil)
	p["health"] = map[string]any{"tcp": address, "retries": 1000, "interval": "1ms", "timeout": "1m"}
	a := f.do(t.Context(), call{task: "t1", payload: p, progress: func(message string) {
		if !listening && strings.Contains(message, "not healthy yet (2 of 1001)") {
			must(syscall.Listen(fd, 10))
			listening = true
		}
	}})
	if a.err != nil || !listening {
		t.Fatal(a.err)
	}
	must(syscall.Close(fd))
	// A check that hangs ends with its timeout.
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		close(stop)
		server.Close()
	})
	p = f.payload("1.1", nil)
	p["health"] = map[string]any{"http": server.URL, "retries": 0, "timeout": "50ms"}
	f.wantError(f.do(t.Context(), call{task: "t2", payload: p}), "1.1 is not healthy: no response within 50ms")
}
