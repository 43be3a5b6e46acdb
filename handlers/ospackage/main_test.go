package ospackage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		syscall.Exit(process.Supervise(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// agent calls the handler as an agent does. Its tests change the packages of the server,
// so they run one after another, and only on the hosts of test/hosts.
type agent struct {
	t   *testing.T
	dir string
	h   handlers.Handler
	n   int
	// out is the output of the last call, and progress are the messages of all calls.
	out      *bytes.Buffer
	mu       sync.Mutex
	progress []string
}

// requireTestHost skips a test that does not run on a host of test/hosts.
func requireTestHost(t *testing.T) {
	t.Helper()
	if os.Getenv("TASKER_TEST_HOST") != "1" {
		t.Skip("skipped: the packages of this host must not be changed")
	}
}

func newAgent(t *testing.T, allow ...string) *agent {
	t.Helper()
	requireTestHost(t)
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	h, err := New(Options{
		Allow: allow, Runner: &process.Runner{Log: log}, Units: filepath.Join(dir, "units"),
		Snapshots: snapshot.New(filepath.Join(dir, "before")), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t: t, dir: dir, h: h, out: new(bytes.Buffer)}
}

func (a *agent) call(ctx context.Context, payload string, edit ...func(*handlers.Call)) (id string, o Outcome, err error) {
	a.t.Helper()
	a.n++
	a.out.Reset()
	c := handlers.Call{
		TaskID: fmt.Sprintf("%s-%d", filepath.Base(filepath.Dir(a.dir)), a.n), Attempt: 1, Action: tasker.Perform, Payload: json.RawMessage(payload), Output: a.out,
		RecordProcess: func(handlers.Process) error { return nil },
		Progress: func(_ float64, message string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.progress = append(a.progress, message)
		},
	}
	for _, e := range edit {
		e(&c)
	}
	r, err := a.h.Handle(ctx, c)
	if r.Value != nil {
		o = r.Value.(Outcome) //nolint:errcheck,forcetypeassert // a test
	}
	return c.TaskID, o, err
}

// hasReported reports whether a progress message contains a text.
func (a *agent) hasReported(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(strings.Join(a.progress, "\n"), text)
}

func dryRun(c *handlers.Call) { c.Action = tasker.DryRun }

func undo(id string) func(*handlers.Call) {
	return func(c *handlers.Call) { c.Action, c.Undoes = tasker.Undo, id }
}

// summary formats an outcome like "changed app 1.0-1>2.0-1! lib >1*", where ! marks a held
// package and * a package that the task did not name.
func summary(o Outcome) string {
	var b strings.Builder
	if o.DryRun {
		b.WriteString("dry run ")
	}
	if o.Changed {
		b.WriteString("changed")
	} else {
		b.WriteString("same")
	}
	for _, c := range o.Packages {
		fmt.Fprintf(&b, " %s %s>%s", c.Name, c.From, c.To)
		if c.Other {
			b.WriteString("*")
		}
		if c.Held {
			b.WriteString("!")
		}
		if c.Incomplete != "" {
			b.WriteString(" " + c.Incomplete)
		}
	}
	return b.String()
}

// sh runs a shell script, which must succeed, on a host of test/hosts only.
func sh(t *testing.T, script string) string {
	t.Helper()
	requireTestHost(t)
	out, err := exec.Command("sh", "-euc", script).CombinedOutput() //nolint:gosec // the scripts of the tests
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
