package process

import (
	"bytes"
	"cmp"
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
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Leftovers ends the processes that an earlier agent process has left running.
type Leftovers struct {
	// Endpoint is the name of this agent. It distinguishes the agent's processes from the
	// processes of another agent on the same machine.
	Endpoint string
	// Grace is the time that a living supervisor gets to end its tree. The default is
	// handlers.DefaultKillGrace.
	Grace time.Duration
	// Log is required.
	Log *slog.Logger
}

// Kill returns when no process of a task is left. recorded has the processes that the
// earlier agent process recorded for the task.
//
// A supervisor that outlived its agent already ends its tree, so Kill waits for it first.
// Then it sends SIGKILL to the rest: the processes in the recorded cgroups, the recorded
// processes, every process with this task and endpoint in its environment, and all their
// descendants. If ctx is done before, the error lists the remaining processes.
func (l Leftovers) Kill(ctx context.Context, recorded []handlers.Process, taskID string) error {
	// After the grace, the supervisor needs a moment to kill and reap.
	waitCtx, cancel := context.WithTimeout(ctx, cmp.Or(l.Grace, handlers.DefaultKillGrace)+time.Second)
	defer cancel()
	for slices.ContainsFunc(recorded, isAlive) && backoff.Sleep(waitCtx, 20*time.Millisecond) == nil {
	}
	return l.sweep(ctx, recorded, taskID)
}

// sweep kills processes until none is left.
func (l Leftovers) sweep(ctx context.Context, recorded []handlers.Process, taskID string) error {
	var cgroups []string
	for _, p := range recorded {
		// Never kill a cgroup that makeCgroup has not created.
		if strings.HasPrefix(filepath.Base(p.Cgroup), cgroupPrefix) && !slices.Contains(cgroups, p.Cgroup) {
			cgroups = append(cgroups, p.Cgroup)
		}
	}
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		left, err := l.find(recorded, taskID)
		if err != nil {
			return fmt.Errorf("find the processes of task %s: %w", taskID, err)
		}
		if len(left) == 0 && !slices.ContainsFunc(cgroups, hasProcesses) {
			break
		}
		for _, dir := range cgroups {
			killCgroup(dir)
		}
		for _, s := range left {
			// If the kill fails and the process still runs, the next round finds it.
			_ = kill(s)
		}
		l.Log.Warn("killed leftover processes of a command", "task", taskID, "endpoint", l.Endpoint, "processes", len(left))
		if backoff.Sleep(ctx, delay) != nil {
			return fmt.Errorf("%d processes of task %s still run, such as %v: %w", len(left), taskID, firstPIDs(left), context.Cause(ctx))
		}
	}
	for _, dir := range cgroups {
		if err := removeCgroup(dir); err != nil {
			return fmt.Errorf("remove the cgroup of task %s: %w", taskID, err)
		}
	}
	return nil
}

// find returns the processes of a task that still run.
func (l Leftovers) find(recorded []handlers.Process, taskID string) ([]stat, error) {
	pids, err := listPIDs()
	if err != nil {
		return nil, err
	}
	var all []stat
	inTree := make(map[int]bool)
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil || s.zombie() || pid == os.Getpid() {
			continue
		}
		all = append(all, s)
		inTree[pid] = slices.ContainsFunc(recorded, func(p handlers.Process) bool {
			return p.PID == pid && p.StartTime == s.start
		}) || l.belongsTo(pid, taskID)
	}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !inTree[s.pid] && inTree[s.ppid] {
				inTree[s.pid], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(s stat) bool { return !inTree[s.pid] }), nil
}

// belongsTo reports whether a process was started with this task and endpoint in its
// environment.
func (l Leftovers) belongsTo(pid int, taskID string) bool {
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

// firstPIDs returns the PIDs of the first few processes.
func firstPIDs(processes []stat) []int {
	var pids []int
	for _, s := range processes[:min(len(processes), 5)] {
		pids = append(pids, s.pid)
	}
	return pids
}
