package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

func itoa(n int) string { return strconv.Itoa(n) }

// trees returns commands that try to leave processes behind. Each prints "ready" when all its
// processes run, and ends only if it is killed.
func trees() map[string]string {
	const stubborn = `trap "" TERM HUP INT; `
	return map[string]string{
		"child":             `sleep 1000 & echo ready; wait`,
		"setsid":            `setsid sleep 1000 & echo ready; wait`,
		"TERM ignored":      stubborn + `echo ready; while :; do sleep 1000; done`,
		"double fork":       `(setsid sh -c '(setsid sh -c "sleep 1000; :" &) ; exit 0' &); sleep 0.1; echo ready; sleep 1000`,
		"stubborn daemon":   `(setsid sh -c '` + stubborn + `echo ready; while :; do sleep 1000; done' &) ; sleep 1000`,
		"no environment":    `(setsid env -i /bin/sh -c 'trap "" TERM; echo ready; while :; do /bin/sleep 1000; done' &) ; sleep 1000`,
		"fork storm":        `echo ready; storm() { for i in 1 2 3; do sh -c 'while :; do /bin/true; done' & setsid sh -c 'while :; do /bin/true; done' & done; }; storm; wait`,
		"ever detaching":    `hop='trap "" TERM; setsid sh -c "$hop" & exit 0'; export hop; echo ready; setsid sh -c "$hop"; sleep 1000`,
		"stopped":           `sleep 1000 & kill -STOP $!; echo ready; kill -STOP $$`,
		"cleans up on TERM": `trap 'sh -c "` + stubborn + `sleep 1000"' TERM; echo ready; while :; do sleep 0.05; done`,
	}
}

func TestCancelLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for name, script := range trees() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				if _, err := f.cancelWhen("ready", f.sh(script)); !errors.Is(err, handlers.ErrCancelled) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestDaemonsEndWithTheCommand(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		exit, err := f.Run(t.Context(), f.sh(`(setsid sh -c 'trap "" TERM; sleep 1000' >/dev/null 2>&1 &); exit 4`))
		if err != nil || exit.Code != 4 {
			t.Errorf("got %+v, %v", exit, err)
		}
	})
}

func TestRunReturnsThoughDaemonHoldsThePipe(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		_, err := f.Run(t.Context(), f.sh(`echo before; (setsid sleep 1000 &); echo after`))
		if err != nil || f.out.String() != "before\nafter\n" {
			t.Errorf("got %v, %q", err, f.out)
		}
	})
}

func TestRunReturnsThoughForeignProcessHoldsThePipe(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		// The test opens the command's pipe, like a daemon that received the descriptor.
		var held *os.File
		in, release := io.Pipe()
		f.out.onOutput("ready", func() {
			defer release.Close()
			var err error
			if held, err = os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", f.process(1).PID), os.O_WRONLY, 0); err != nil {
				t.Error(err)
			}
		})
		spec := f.sh(`echo ready; cat; head -c 60000 /dev/zero; exit 6`)
		spec.Stdin = in
		exit, err := f.Run(t.Context(), spec)
		if err != nil || exit.Code != 6 || held == nil {
			t.Errorf("got %+v, %v", exit, err)
		}
		if n := len(f.out.String()); n != len("ready\n")+60000 {
			t.Errorf("%d bytes of output", n)
		}
		held.Close()
	})
}

func TestKilledSupervisorLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for name, script := range trees() {
		if name == "ever detaching" || name == "no environment" {
			continue // Without the supervisor, only a cgroup finds these.
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				f.out.onOutput("ready", func() {
					if err := syscall.Kill(f.process(0).PID, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				})
				if _, err := f.Run(t.Context(), f.sh(script)); !errors.Is(err, process.ErrSupervisorLost) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestSignalledSupervisorEndsTheTree(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		f.out.onOutput("ready", func() {
			if err := syscall.Kill(f.process(0).PID, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		})
		exit, err := f.Run(t.Context(), f.sh("echo ready; sleep 1000"))
		if err == nil || exit.Signal != syscall.SIGTERM {
			t.Errorf("got %+v, %v", exit, err)
		}
	})
}

// killAgent starts an agent that runs a script, waits until the script is
// ready, and kills the agent.
func killAgent(t *testing.T, f *fixture, script string) {
	t.Helper()
	var out buffer
	ready := make(chan struct{})
	out.onOutput("ready", func() { close(ready) })
	cmd := exec.Command("/proc/self/exe", "agent", f.taskID, f.Cgroup, script)
	cmd.Stdout = &out
	cmd.WaitDelay = time.Millisecond
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case <-time.After(maxWait):
		t.Error("timeout while waiting for the agent's command")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the killed agent has exit code 0")
	}
	for line := range strings.Lines(out.String()) {
		var p handlers.Process
		if n, _ := fmt.Sscanf(line, "recorded %d %d %s", &p.PID, &p.StartTime, &p.Cgroup); n >= 2 {
			f.recorded = append(f.recorded, p)
		}
	}
	if len(f.recorded) == 0 {
		t.Fatalf("recorded %v", f.recorded)
	}
}

func TestKilledAgentLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for name, script := range trees() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				killAgent(t, f, script)
				waitFor(t, "the supervisor to end the tree", func() bool {
					// PID 1 may leave a zombie for a while.
					args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", f.recorded[0].PID))
					return (err != nil || len(args) == 0) && len(f.remaining()) == 0
				})
			})
		})
	}
}

func TestLeftoversKillTheTree(t *testing.T) {
	t.Parallel()
	for name, script := range trees() {
		if name == "ever detaching" || name == "no environment" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				leftovers := process.Leftovers{Endpoint: endpoint, Grace: 200 * time.Millisecond, Log: f.Log}
				killAgent(t, f, script)
				if err := syscall.Kill(f.process(0).PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					t.Error(err)
				}
				if err := leftovers.Kill(t.Context(), f.recorded, f.taskID); err != nil {
					t.Error(err)
				}
				if pids := f.remaining(); len(pids) > 0 {
					t.Errorf("processes still run: %v", pids)
				}
			})
		})
	}
}

func TestLeftoversSpareOtherTasks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	ready := make(chan struct{})
	f.out.onOutput("ready", func() { close(ready) })
	go func() {
		_, err := f.Run(ctx, f.sh("echo ready; exec sleep 1000"))
		done <- err
	}()
	<-ready
	other := handlers.Process{PID: f.process(1).PID, StartTime: f.process(1).StartTime - 1, Cgroup: "/sys/fs/cgroup"}
	for _, leftovers := range []process.Leftovers{
		{Endpoint: endpoint, Log: f.Log},
		{Endpoint: "another", Log: f.Log},
	} {
		if err := leftovers.Kill(t.Context(), []handlers.Process{other}, f.taskID+"-another"); err != nil {
			t.Error(err)
		}
	}
	// During the exec of sleep, the environment cannot be read.
	waitFor(t, "the command to be found", func() bool { return len(f.remaining()) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
