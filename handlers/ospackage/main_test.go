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

// agent calls the handler as an agent does. Its tests change the packages of the
// server, so they run one after another, and on the hosts of test/hosts only.
type agent struct {
	t   *testing.T
	dir string
	h   handlers.Handler
	n   int
	// out is what the last call has printed, and said what it was at.
	out  *bytes.Buffer
	mu   sync.Mutex
	said []string
}

func newAgent(t *testing.T, allow ...string) *agent {
	t.Helper()
	if os.Getenv("TASKER_TEST_HOST") != "1" {
		t.Skip("this is no host whose packages may be changed")
	}
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
			a.said = append(a.said, message)
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

// saw says whether a call has said what it is at with these words.
func (a *agent) saw(words string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(strings.Join(a.said, "\n"), words)
}

func plan(c *handlers.Call) { c.Action = tasker.DryRun }

func undo(id string) func(*handlers.Call) {
	return func(c *handlers.Call) { c.Action, c.Undoes = tasker.Undo, id }
}

// text is an outcome in short: "changed app 1.0-1>2.0-1! lib >1*" where ! is held and
// * nobody has named.
func text(o Outcome) string {
	var b strings.Builder
	if o.Plan {
		b.WriteString("plan ")
	}
	if o.Changed {
		b.WriteString("changed")
	} else {
		b.WriteString("same")
	}
	for _, c := range o.Packages {
		fmt.Fprintf(&b, " %s %s>%s", c.Name, c.From, c.To)
		for mark, is := range map[string]bool{"*": c.Other} {
			if is {
				b.WriteString(mark)
			}
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

// sh runs a shell script, which must succeed.
func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-euc", script).CombinedOutput() //nolint:gosec // of the tests
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
