package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// stat has the required fields of /proc/PID/stat.
type stat struct {
	pid, ppid, pgrp int
	// name is the name of the executable, unless the process has changed it. It has at most
	// 15 bytes.
	name  string
	state byte
	start uint64
}

// zombie reports whether the process has ended and only waits to be reaped.
func (s stat) zombie() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is the command's name in parentheses and may contain any character.
	// The third field follows the last parenthesis.
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	s := stat{pid: pid, name: string(b[begin+1 : max(end, begin+1)]), state: f[0][0]}
	var errs [3]error
	s.ppid, errs[0] = strconv.Atoi(f[1])
	s.pgrp, errs[1] = strconv.Atoi(f[2])
	s.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return s, errors.Join(errs[:]...)
}

// listPIDs returns the PIDs of all processes, in ascending order.
func listPIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// identify returns the PID and the start time of a process, which together are unique.
func identify(pid int) (handlers.Process, error) {
	s, err := readStat(pid)
	if err != nil {
		return handlers.Process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return handlers.Process{PID: pid, StartTime: s.start}, nil
}

// isAlive reports whether p still runs. A later process with the same PID does not count.
func isAlive(p handlers.Process) bool {
	s, err := readStat(p.PID)
	return err == nil && s.start == p.StartTime && !s.zombie()
}

// kill kills a process, but not a later one with the same PID: os.Process holds a pidfd while
// the start time is compared.
func kill(s stat) error {
	p, err := os.FindProcess(s.pid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Release() }()
	now, err := readStat(s.pid)
	if err != nil || now.start != s.start {
		return os.ErrProcessDone
	}
	return p.Signal(syscall.SIGKILL)
}

// maxScan is the number of PIDs that killChildrenAfter checks.
const maxScan = 1000

// killChildrenAfter kills the children of this process, with their process groups, that were
// started after the process with this PID. Only the goroutine that reaps the children may
// call it, because a PID can be reused once its child is reaped. It misses children if PIDs
// have wrapped or very many were used; signalDescendants kills those.
func killChildrenAfter(pid int) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return
	}
	// The last field is the most recent PID.
	last, err := strconv.Atoi(strings.TrimSpace(string(b[bytes.LastIndexByte(b, ' ')+1:])))
	if err != nil {
		return
	}
	self := os.Getpid()
	for next := pid + 1; next <= min(last, pid+maxScan); next++ {
		if s, err := readStat(next); err == nil && s.ppid == self {
			// If there is a process group with this ID, the child is its leader.
			_, _ = syscall.Kill(-next, syscall.SIGKILL), syscall.Kill(next, syscall.SIGKILL)
		}
	}
}

// signalDescendants sends sig to the process group of every descendant of this process. A
// fork within a group cannot outrun a signal to the group. The groups contain only
// descendants, because the command began a session and groups do not span sessions.
//
// Each process is signalled as soon as it is found, in the order of the PIDs. So a process
// that keeps forking and detaching has little time to escape.
//
// It returns the descendants that it has found. The signal 0 only finds them.
func signalDescendants(sig syscall.Signal) (found []stat, err error) {
	sent := make(map[int]bool)
	self, own := os.Getpid(), syscall.Getpgrp()
	tree := map[int]bool{self: true}
	for {
		pids, err := listPIDs()
		if err != nil {
			return found, fmt.Errorf("list processes: %w", err)
		}
		known := len(tree)
		for _, pid := range pids {
			s, err := readStat(pid)
			if err != nil || !tree[s.ppid] || tree[pid] {
				continue
			}
			tree[pid] = true
			found = append(found, s)
			if s.pgrp <= 1 || s.pgrp == own || sent[s.pgrp] {
				continue
			}
			sent[s.pgrp] = true
			// The only possible error is ESRCH: the group has ended meanwhile.
			_ = syscall.Kill(-s.pgrp, sig)
		}
		// A child can have a lower PID than its parent, if PIDs have wrapped.
		if len(tree) == known {
			return found, nil
		}
	}
}
