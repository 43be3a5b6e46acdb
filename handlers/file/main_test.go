package file_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/file"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		syscall.Exit(process.Supervise(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// fixture is an allowed directory, which all users can read, and its handler.
type fixture struct {
	*handlers.Mux
	t *testing.T
	// root contains the allowed directory dir and the snapshots.
	root, dir string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, root: root, dir: filepath.Join(root, "app")}
	f.mkdir("app")
	f.allow(f.dir)
	return f
}

// allow creates the handler again with other allowed directories.
func (f *fixture) allow(dirs ...string) {
	f.t.Helper()
	h, err := file.New(file.Options{
		Allow:     dirs,
		Commands:  command.AllowList{{Argv: []string{"/bin/sh", "-c", "*", "{}"}}},
		Runner:    &process.Runner{Grace: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil))},
		Snapshots: snapshot.New(filepath.Join(f.root, "before")),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if f.Mux, err = handlers.NewMux(h); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) mkdir(name string) {
	f.t.Helper()
	if err := os.Mkdir(filepath.Join(f.root, name), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

// writeFile writes a file in the allowed directory.
func (f *fixture) writeFile(name, content string, mode os.FileMode) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		f.t.Fatal(err)
	}
}

// wantFiles checks the files in the allowed directory: "MODE CONTENT" by name.
func (f *fixture) wantFiles(files map[string]string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := files[e.Name()]; !ok {
			f.t.Errorf("unexpected file %s", e.Name())
		}
	}
	for name, want := range files {
		path := filepath.Join(f.dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			f.t.Error(err)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			f.t.Fatal(err)
		}
		if got := info.Mode().Perm().String()[1:] + " " + string(content); got != want {
			f.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// payload returns the payload for a file in the allowed directory; more contains its
// other fields.
func (f *fixture) payload(name, more string) string {
	return `{"path":"` + filepath.Join(f.dir, name) + `",` + more + `}`
}

// result is the result of a call.
type result struct {
	file.Outcome
	out string
	err error
}

// rejected reports whether the payload is invalid or the error is a rejection.
func (r result) rejected() bool {
	var reject *handlers.RejectError
	var invalid *handlers.PayloadError
	return errors.As(r.err, &reject) || errors.As(r.err, &invalid)
}

func (f *fixture) perform(payload string) result { return f.call(f.t.Context(), "", "task-1", payload) }

func (f *fixture) dryRun(payload string) result {
	return f.call(f.t.Context(), tasker.DryRun, "task-1", payload)
}

func (f *fixture) undo(payload string) result {
	return f.call(f.t.Context(), tasker.Undo, "task-1", payload)
}

// call performs a task, makes a dry run of it, or undoes it.
func (f *fixture) call(ctx context.Context, action tasker.Action, task, payload string) result {
	f.t.Helper()
	if err := f.Validate(file.Name, json.RawMessage(payload)); err != nil {
		return result{err: err}
	}
	var out bytes.Buffer
	c := handlers.Call{
		TaskID: task, Identifier: "id-1", Endpoint: "e-" + strings.ToLower(rand.Text()), Type: "file", Attempt: 1,
		Payload: json.RawMessage(payload), Action: action, Output: &out,
		Progress:      func(float64, string) {},
		RecordProcess: func(handlers.Process) error { return nil },
	}
	if action == tasker.Undo {
		c.TaskID, c.Undoes = "undo-of-"+task, task
	}
	h, _ := f.Lookup(file.Name)
	r, err := h.Handle(ctx, c)
	got := result{out: out.String(), err: err}
	got.Outcome, _ = r.Value.(file.Outcome)
	return got
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}
