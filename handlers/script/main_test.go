package script_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
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
	// A process that another test forks now would hold the script open for writing, and the
	// script could not be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	// Chmod ignores the umask.
	if err := os.Chmod(path, mode); err != nil {
		f.t.Fatal(err)
	}
}

type callResult struct {
	result   handlers.Result
	out      string
	progress []string
	err      error
}

func (f *fixture) run(ctx context.Context, taskType, payload string) callResult {
	f.t.Helper()
	return f.call(ctx, tasker.Perform, taskType, payload)
}

// call calls the handler with task-1, or with task-2 that undoes task-1.
func (f *fixture) call(ctx context.Context, action tasker.Action, taskType, payload string) callResult {
	f.t.Helper()
	task, undoes := "task-1", ""
	if action == tasker.Undo {
		task, undoes = "task-2", "task-1"
	}
	var r callResult
	var out syncbuffer.Buffer
	var mu sync.Mutex
	// Leftover processes of a task are killed by the names of the task and the endpoint, so
	// each call has its own endpoint. The output has e1 in its place.
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
