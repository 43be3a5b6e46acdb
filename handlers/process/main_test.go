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

// TestMain also runs the test binary as the supervisor, and as an agent that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			// os.Exit would wait a second or more for the race detector.
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
			_, err := fmt.Printf("recorded %d %d %s\n", p.PID, p.StartTime, p.Cgroup)
			return err
		},
	})
	if err != nil {
		return 1
	}
	return 0
}

const endpoint = "test-endpoint"

// fixture is a Runner and one task.
type fixture struct {
	*process.Runner
	t      *testing.T
	taskID string
	out    *buffer

	mu       sync.Mutex
	recorded []handlers.Process
}

// withAndWithoutCgroup runs a test twice.
func withAndWithoutCgroup(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(t, newFixture(t, ""))
	})
	t.Run("cgroup", func(t *testing.T) {
		t.Parallel()
		root, err := process.FindCgroupRoot()
		if err != nil {
			t.Skipf("commands cannot have their own cgroup: %v", err)
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
		if pids := f.remaining(); len(pids) > 0 {
			t.Errorf("processes still run: %v", pids)
		}
		for _, p := range f.recorded {
			if p.Cgroup == "" {
				continue
			}
			if _, err := os.Stat(p.Cgroup); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cgroup %s still exists", p.Cgroup)
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
			f.recorded = append(f.recorded, p)
			return nil
		},
	}
}

func (f *fixture) sh(script string) process.Spec { return f.spec("/bin/sh", "-c", script) }

// process waits until the supervisor (0) or the command (1) is recorded, and returns it.
func (f *fixture) process(i int) handlers.Process {
	var p handlers.Process
	waitFor(f.t, "the process to be recorded", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.recorded) <= i {
			return false
		}
		p = f.recorded[i]
		return true
	})
	return p
}

// remaining returns the processes that have the task in their environment, without zombies.
func (f *fixture) remaining() []string {
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
	f.out.onOutput(want, func() { cancel(handlers.ErrCancelled) })
	return f.Run(ctx, spec)
}

// buffer is an io.Writer that calls a function when it contains a text.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	call func()
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.b.Write(p)
	if b.call != nil && strings.Contains(b.b.String(), b.want) {
		b.call()
		b.call = nil
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) onOutput(want string, call func()) { b.want, b.call = want, call }

// maxWait is the upper limit of every wait in these tests.
const maxWait = 2 * time.Minute

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(maxWait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timeout while waiting for %s", what)
		}
	}
}
