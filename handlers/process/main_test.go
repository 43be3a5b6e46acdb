package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// TestMain makes the test binary the supervisor, and an agent that can be
// killed, as well.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			// Not os.Exit, at which the race detector waits a second or more.
			syscall.Exit(process.Supervise(os.Args[2:]))
		case "agent":
			syscall.Exit(agent(os.Args[2], os.Args[3], os.Args[4]))
		}
	}
	goleak.VerifyTestMain(m)
}

// agent runs a shell script for a task until it is killed.
func agent(taskID, cgroup, script string) int {
	runner := &process.Runner{Cgroup: cgroup, Grace: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	_, err := runner.Run(context.Background(), process.Spec{
		Argv:   []string{"/bin/sh", "-c", script},
		Env:    process.Environ(handlers.Call{TaskID: taskID, Endpoint: endpoint}, nil),
		Stdout: os.Stdout,
		RecordProcess: func(p handlers.Process) error {
			_, err := fmt.Printf("spawned %d %d %s\n", p.PID, p.StartTime, p.Cgroup)
			return err
		},
	})
	if err != nil {
		return 1
	}
	return 0
}

const endpoint = "test-endpoint"

// fixture is one task of a runner.
type fixture struct {
	*process.Runner
	t      *testing.T
	taskID string
	out    *buffer

	mu      sync.Mutex
	spawned []handlers.Process
}

// each runs a test with and without a cgroup.
func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(t, newFixture(t, ""))
	})
	t.Run("cgroup", func(t *testing.T) {
		t.Parallel()
		root, err := process.FindCgroupRoot()
		if err != nil {
			t.Skipf("left out: commands in a cgroup of their own: %v", err)
		}
		test(t, newFixture(t, root))
	})
}

func newFixture(t *testing.T, cgroup string) *fixture {
	f := &fixture{
		Runner: &process.Runner{Cgroup: cgroup, Grace: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		t:      t,
		taskID: strings.ReplaceAll(t.Name(), "/", "-") + "-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		out:    &buffer{},
	}
	t.Cleanup(func() {
		if pids := f.left(); len(pids) > 0 {
			t.Errorf("processes are left: %v", pids)
		}
		for _, p := range f.spawned {
			if p.Cgroup == "" {
				continue
			}
			if _, err := os.Stat(p.Cgroup); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cgroup %s is left", p.Cgroup)
			}
		}
	})
	return f
}

func (f *fixture) spec(argv ...string) process.Spec {
	return process.Spec{
		Argv:   argv,
		Env:    process.Environ(handlers.Call{TaskID: f.taskID, Endpoint: endpoint}, nil),
		Stdout: f.out,
		Stderr: f.out,
		RecordProcess: func(p handlers.Process) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.spawned = append(f.spawned, p)
			return nil
		},
	}
}

func (f *fixture) sh(script string) process.Spec { return f.spec("/bin/sh", "-c", script) }

// process waits for the supervisor (0) or the command (1).
func (f *fixture) process(i int) handlers.Process {
	var p handlers.Process
	waitFor(f.t, "the process is recorded", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.spawned) <= i {
			return false
		}
		p = f.spawned[i]
		return true
	})
	return p
}

// left lists the processes that have the task in their environment, zombies not.
func (f *fixture) left() []string {
	var pids []string
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range environs {
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte("TASKER_TASK_ID="+f.taskID+"\x00")) {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// cancelWhen runs spec and cancels it once it has printed want.
func (f *fixture) cancelWhen(want string, spec process.Spec) (process.Exit, error) {
	ctx, cancel := context.WithCancelCause(f.t.Context())
	defer cancel(nil)
	f.out.notify(want, func() { cancel(handlers.ErrCancelled) })
	return f.Run(ctx, spec)
}

// buffer is an io.Writer that tells when something was written.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	tell func()
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.b.Write(p)
	if b.tell != nil && strings.Contains(b.b.String(), b.want) {
		b.tell()
		b.tell = nil
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) notify(want string, tell func()) { b.want, b.tell = want, tell }

// patience bounds every wait of a test.
const patience = 2 * time.Minute

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
