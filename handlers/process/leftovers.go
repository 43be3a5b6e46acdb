package process

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Leftovers ends what is left of an earlier agent's commands.
type Leftovers struct {
	// Endpoint is the agent's own name, by which it tells its processes from
	// those of another agent on the same machine.
	Endpoint string
	// Grace is how long a supervisor that still lives may go on ending its tree;
	// zero is handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is mandatory.
	Log *slog.Logger
}

// Kill returns when nothing of a task is left. Procs are the processes that were
// recorded for it. A supervisor that outlived its agent is already ending its
// tree and is waited for; whatever then is left gets SIGKILL: the members of the
// recorded cgroups, the recorded processes, every process with this task and
// endpoint in its environment, and all their descendants.
//
// The error says what is left when ctx is done.
func (l Leftovers) Kill(ctx context.Context, procs []handlers.Process, taskID string) error {
	grace := l.Grace
	if grace == 0 {
		grace = handlers.DefaultKillGrace
	}
	// Beyond the grace, a moment for it to kill and reap.
	waiting, stop := context.WithTimeout(ctx, grace+time.Second)
	defer stop()
	for slices.ContainsFunc(procs, alive) && pause(waiting, 20*time.Millisecond) {
	}
	return l.sweep(ctx, procs, taskID)
}

// sweep kills until nothing is left.
func (l Leftovers) sweep(ctx context.Context, procs []handlers.Process, taskID string) error {
	var cgroups []string
	for _, p := range procs {
		// Only what makeCgroup has made: a cgroup of another kind is never killed.
		if strings.HasPrefix(filepath.Base(p.Cgroup), cgroupPrefix) && !slices.Contains(cgroups, p.Cgroup) {
			cgroups = append(cgroups, p.Cgroup)
		}
	}
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		left, err := l.find(procs, taskID)
		if err != nil {
			return fmt.Errorf("look for processes of task %s: %w", taskID, err)
		}
		if len(left) == 0 && !slices.ContainsFunc(cgroups, populated) {
			break
		}
		for _, dir := range cgroups {
			killCgroup(dir)
		}
		for _, s := range left {
			// It may be gone by itself; if not, the next round finds it again.
			_ = killExactly(s)
		}
		l.Log.Warn("killed what was left of a command", "task", taskID, "endpoint", l.Endpoint, "processes", len(left))
		if !pause(ctx, delay) {
			return fmt.Errorf("%d processes of task %s are left, such as %v: %w", len(left), taskID, ids(left), context.Cause(ctx))
		}
	}
	for _, dir := range cgroups {
		if err := removeCgroup(dir); err != nil {
			return fmt.Errorf("remove the cgroup of task %s: %w", taskID, err)
		}
	}
	return nil
}

// find lists the processes of a task that still run.
func (l Leftovers) find(procs []handlers.Process, taskID string) ([]stat, error) {
	list, err := pids()
	if err != nil {
		return nil, err
	}
	var all []stat
	tree := make(map[int]bool)
	for _, pid := range list {
		s, err := readStat(pid)
		if err != nil || s.zombie() || pid == os.Getpid() {
			continue
		}
		all = append(all, s)
		tree[pid] = slices.ContainsFunc(procs, func(p handlers.Process) bool {
			return p.PID == pid && p.StartTime == s.start
		}) || l.marked(pid, taskID)
	}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !tree[s.pid] && tree[s.ppid] {
				tree[s.pid], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(s stat) bool { return !tree[s.pid] }), nil
}

// marked says whether the process was started with this task and endpoint in its
// environment.
func (l Leftovers) marked(pid int, taskID string) bool {
	if taskID == "" || l.Endpoint == "" {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	vars := bytes.Split(b, []byte{0})
	has := func(want string) bool {
		return slices.ContainsFunc(vars, func(v []byte) bool { return string(v) == want })
	}
	return has(envTaskID+"="+taskID) && has(envEndpoint+"="+l.Endpoint)
}

// ids are those of the first few processes.
func ids(list []stat) []int {
	var pids []int
	for _, s := range list[:min(len(list), 5)] {
		pids = append(pids, s.pid)
	}
	return pids
}

// pause waits for d and says whether ctx is not done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
