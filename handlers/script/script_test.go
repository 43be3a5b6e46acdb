package script_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/script"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		syscall.Exit(process.Supervise(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// fixture is a script directory and its handler.
type fixture struct {
	*script.Handler
	t   *testing.T
	dir string
	log *bytes.Buffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: filepath.Join(t.TempDir(), "handlers.d"), log: &bytes.Buffer{}}
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.Handler = script.New(script.Options{
		Directory: f.dir, Log: log,
		Runner:    &process.Runner{Grace: time.Minute, Log: log},
		Snapshots: snapshot.New(filepath.Join(f.dir, "../before")),
	})
	return f
}

func (f *fixture) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	// What another test starts meanwhile must not have the script open for writing,
	// or it could not be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	// The umask has no say in it.
	if err := os.Chmod(path, mode); err != nil {
		f.t.Fatal(err)
	}
}

type ran struct {
	result   handlers.Result
	out      string
	progress []string
	err      error
}

func (f *fixture) run(ctx context.Context, taskType, payload string) ran {
	f.t.Helper()
	return f.act(ctx, tasker.Perform, taskType, payload)
}

// act runs a task, or undoes that of run.
func (f *fixture) act(ctx context.Context, action tasker.Action, taskType, payload string) ran {
	f.t.Helper()
	task, undoes := "task-1", ""
	if action == tasker.Undo {
		task, undoes = "task-2", "task-1"
	}
	var r ran
	var out bytes.Buffer
	var mu sync.Mutex
	// What is left of a task is killed by the names of task and endpoint, so each
	// run has an endpoint of its own, shown as e1.
	endpoint := "e-" + strings.ToLower(rand.Text())
	r.result, r.err = f.Handle(ctx, handlers.Call{
		TaskID: task, Identifier: "id-1", Endpoint: endpoint, Type: taskType, Attempt: 1, Action: action, Undoes: undoes,
		Payload: json.RawMessage(payload), Output: &out,
		Progress: func(percent float64, message string) {
			mu.Lock()
			defer mu.Unlock()
			r.progress = append(r.progress, fmt.Sprintf("%g %s", percent, message))
		},
		RecordProcess: func(handlers.Process) error { return nil },
	})
	r.out = strings.ReplaceAll(out.String(), endpoint, "e1")
	return r
}

func TestRuns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		code         int
		err          string
		out          string
		result       string
		progress     []string
	}{
		{name: "nothing", script: "exit 0"},
		{name: "payload on stdin", script: `cat`, out: `{"version":"7"}`},
		{name: "payload not read", script: `echo done`, out: "done\n"},
		{name: "result", script: `echo '::result {"a":1}'; echo text`, out: "text\n", result: `{"a":1}`},
		{name: "progress", script: `echo ::progress 10 one; echo "::progress 90 two"`, progress: []string{"10 one", "90 two"}},
		{name: "failed", script: `echo out; echo "no space" >&2; exit 3`, code: 3, err: "no space", out: "no space\n"},
		{name: "failed silently", script: `exit 3`, code: 3, err: "exit code 3"},
		{name: "failed with a result", script: `echo ::result 5; exit 3`, code: 3, err: "exit code 3", result: "5"},
		{name: "killed", script: `echo why >&2; kill -9 $$`, code: 137, err: "killed by SIGKILL: why", out: "why\n"},
		{name: "stderr is not the error of a success", script: `echo note >&2`, out: "note\n"},
		{name: "directives on stderr are none", script: `echo '::result 1' >&2`, out: "::result 1\n"},
		{name: "bad result", script: `echo ::result nope`, err: "the line ::result is not JSON: nope"},
		{name: "environment", script: `echo $TASKER_TASK_ID $TASKER_IDENTIFIER $TASKER_ENDPOINT $TASKER_TYPE $TASKER_ATTEMPT $TASKER_RESUMED $TASKER_ACTION/$TASKER_UNDOES`, out: "task-1 id-1 e1 update-app 1 0 perform/\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.write("update-app", "#!/bin/sh\n"+tt.script+"\n", 0o755)
			got := f.run(t.Context(), "update-app", `{"version":"7"}`)
			msg := ""
			if got.err != nil {
				msg = got.err.Error()
			}
			result := ""
			if got.result.Value != nil {
				b, err := json.Marshal(got.result.Value)
				if err != nil {
					t.Fatal(err)
				}
				result = string(b)
			}
			if msg != tt.err || result != tt.result || !slices.Equal(got.progress, tt.progress) || !strings.Contains(got.out, tt.out) {
				t.Errorf("got %+v", got)
			}
			if got.result.ExitCode == nil || *got.result.ExitCode != tt.code {
				t.Errorf("exit code %v, want %d", got.result.ExitCode, tt.code)
			}
		})
	}
}

func TestRunsInTheDirectory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("where", "#!/bin/sh\npwd\n", 0o700)
	if got := f.run(t.Context(), "where", `{}`); got.err != nil || strings.TrimSpace(got.out) != f.dir {
		t.Errorf("got %+v", got)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("slow", "#!/bin/sh\ntrap 'echo ::result 5; exit 0' TERM\necho ::progress 1 x\nwhile :; do sleep 0.05; done\n", 0o755)
	ctx, cancel := context.WithCancelCause(t.Context())
	result, err := f.Handle(ctx, handlers.Call{
		TaskID: "task-1", Type: "slow", Payload: json.RawMessage(`{}`), Output: &bytes.Buffer{},
		Progress: func(float64, string) { cancel(handlers.ErrTimedOut) },
	})
	if !errors.Is(err, handlers.ErrTimedOut) || result.ExitCode == nil || *result.ExitCode != 0 {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestListsWhatMayRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.Scripts(); len(got) != 0 {
		t.Errorf("an empty directory lists %v", got)
	}
	const sh = "#!/bin/sh\necho ran\n"
	for _, name := range []string{"b", "update-app", "deploy.sh"} {
		f.write(name, sh, 0o755)
	}
	refused := map[string]string{
		"group-writable": "chmod go-w", "other-writable": "chmod go-w", "bad-header": "unknown setting", "bad-restart": "restart is never", "bad-undo": "undo is yes or no",
		"outside": "escapes", "absolute": "escapes",
	}
	f.write("group-writable", sh, 0o775)
	f.write("other-writable", sh, 0o757)
	f.write("bad-header", "#!/bin/sh\n# tasker: timeout=3\n", 0o755)
	f.write("bad-undo", "#!/bin/sh\n# tasker: undo\n", 0o755)
	f.write("bad-restart", "#!/bin/sh\n# tasker: restart=always\n", 0o755)
	f.write("not-executable", sh, 0o644)
	f.write(".hidden", sh, 0o755)
	f.write("UPPER", sh, 0o755)
	f.write("endpoints", sh, 0o755)
	if err := os.Mkdir(filepath.Join(f.dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.dir), "foreign"), []byte(sh), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"inside": "b", "outside": "../foreign", "absolute": "/bin/true", "dangling": "nothing",
	} {
		if err := os.Symlink(target, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	runs := []string{"b", "deploy.sh", "inside", "update-app"}
	if got := f.Scripts(); !slices.Equal(got, runs) {
		t.Errorf("got %v, want %v", got, runs)
	}
	for name, why := range refused {
		if !strings.Contains(f.log.String(), name) {
			t.Errorf("nothing is logged of %s:\n%s", name, f.log)
		}
		got := f.run(t.Context(), name, `{}`)
		var reject *handlers.RejectError
		if !errors.As(got.err, &reject) || !strings.Contains(got.err.Error(), why) || got.out != "" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for _, name := range []string{
		"not-executable", ".hidden", "UPPER", "endpoints", "folder", "dangling", "none", "", ".", "..", "../foreign", "folder/../b", "/bin/true",
	} {
		got := f.run(t.Context(), name, `{}`)
		var reject *handlers.RejectError
		if !errors.As(got.err, &reject) || got.out != "" {
			t.Errorf("%q: got %+v", name, got)
		}
	}
	logged := f.log.Len()
	f.Scripts()
	if f.log.Len() != logged {
		t.Error("the same is logged again")
	}
}

func TestDirectoryMustBeSafe(t *testing.T) {
	t.Parallel()
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		if err := os.Remove(f.dir); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 || f.log.Len() > 0 {
			t.Errorf("got %v, %s", got, f.log)
		}
	})
	for name, mode := range map[string]os.FileMode{"by its group": 0o775, "by others": 0o757, "sticky": 0o777 | os.ModeSticky} {
		t.Run("writable "+name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.write("a", "#!/bin/sh\n", 0o755)
			if err := os.Chmod(f.dir, mode); err != nil {
				t.Fatal(err)
			}
			if got := f.Scripts(); len(got) != 0 || !strings.Contains(f.log.String(), "chmod go-w") {
				t.Errorf("got %v, %s", got, f.log)
			}
		})
	}
	t.Run("parent writable", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.write("a", "#!/bin/sh\n", 0o755)
		if err := os.Chmod(filepath.Dir(f.dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("another's file", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("left out: files of another user, which only root can make")
		}
		f := newFixture(t)
		f.write("a", "#!/bin/sh\n", 0o755)
		f.write("b", "#!/bin/sh\n", 0o755)
		if err := os.Chown(filepath.Join(f.dir, "a"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); !slices.Equal(got, []string{"b"}) || !strings.Contains(f.log.String(), "belongs to user 65534") {
			t.Errorf("got %v, %s", got, f.log)
		}
		if err := os.Chown(f.dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRestartContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, tt := range map[string]struct {
		text string
		want handlers.Restart
	}{
		"none":    {"#!/bin/sh\n", handlers.RestartNever},
		"empty":   {"", handlers.RestartNever},
		"retry":   {"#!/bin/sh\n\n# tasker: restart=retry\n", handlers.RestartRetry},
		"resume":  {"#!/usr/bin/env node\n// tasker: restart=resume\n", handlers.RestartResume},
		"never":   {"#!/usr/bin/lua\n-- tasker:restart=never\n", handlers.RestartNever},
		"late":    {"#!/bin/sh\n" + strings.Repeat("#\n", 4096) + "# tasker: restart=retry\n", handlers.RestartNever},
		"no-line": {"#!/bin/sh\necho '# tasker: restart=retry'\n", handlers.RestartNever},
	} {
		f.write(name, tt.text, 0o755)
		if got := f.RestartOf(name); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	if got := f.RestartOf("missing"); got != handlers.RestartNever {
		t.Errorf("missing: got %s", got)
	}
}
