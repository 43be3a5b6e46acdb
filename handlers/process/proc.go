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

// stat is what is needed of /proc/PID/stat.
type stat struct {
	pid, ppid, pgrp int
	state           byte
	start           uint64
}

// zombie says that the process has ended and only waits to be reaped.
func (s stat) zombie() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is the command's name in parentheses, in which anything
	// may be; the third comes after the last parenthesis.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	s := stat{pid: pid, state: f[0][0]}
	var errs [3]error
	s.ppid, errs[0] = strconv.Atoi(f[1])
	s.pgrp, errs[1] = strconv.Atoi(f[2])
	s.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return s, errors.Join(errs[:]...)
}

// pids lists the processes there are, in ascending order.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list, nil
}

// identify reads what tells the process from others that get the same id later.
func identify(pid int) (handlers.Process, error) {
	s, err := readStat(pid)
	if err != nil {
		return handlers.Process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return handlers.Process{PID: pid, StartTime: s.start}, nil
}

// alive says whether the very process p still runs.
func alive(p handlers.Process) bool {
	s, err := readStat(p.PID)
	return err == nil && s.start == p.StartTime && !s.zombie()
}

// killExactly kills the process that has this id and this start time, and no
// other that got the id meanwhile: os.Process holds a pidfd.
func killExactly(s stat) error {
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

// maxSince bounds how many ids killSince looks at.
const maxSince = 1000

// killSince kills the children of this process, with their process groups, that were
// started after the process with this id. It is for the one goroutine that reaps
// them: until then nobody else has their ids. What it misses, where ids have wrapped
// or very many were given, is left to signalDescendants.
func killSince(pid int) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return
	}
	// The last field is the id that was given last.
	last, err := strconv.Atoi(strings.TrimSpace(string(b[bytes.LastIndexByte(b, ' ')+1:])))
	if err != nil {
		return
	}
	self := os.Getpid()
	for id := pid + 1; id <= min(last, pid+maxSince); id++ {
		if s, err := readStat(id); err == nil && s.ppid == self {
			// A group by this id has this child as its leader.
			_, _ = syscall.Kill(-id, syscall.SIGKILL), syscall.Kill(id, syscall.SIGKILL)
		}
	}
}

// signalDescendants sends sig to the process group of every descendant of this
// process, but not to the groups in sent, to which it adds. A signal to a group
// cannot be outrun by a fork within it. The groups of descendants have no
// other members: the command began a session, and groups do not span sessions.
//
// Processes are looked at in the order of their ids and signalled as soon as
// they are seen, which leaves one that keeps forking and detaching little time.
func signalDescendants(sig syscall.Signal, sent map[int]bool) error {
	self, own := os.Getpid(), syscall.Getpgrp()
	tree := map[int]bool{self: true}
	for {
		list, err := pids()
		if err != nil {
			return fmt.Errorf("list processes: %w", err)
		}
		found := len(tree)
		for _, pid := range list {
			s, err := readStat(pid)
			if err != nil || !tree[s.ppid] || tree[pid] {
				continue
			}
			tree[pid] = true
			if s.pgrp <= 1 || s.pgrp == own || sent[s.pgrp] {
				continue
			}
			sent[s.pgrp] = true
			// ESRCH is all this can say: it has ended meanwhile.
			_ = syscall.Kill(-s.pgrp, sig)
		}
		// A child may have a lower id than its parent, where ids have wrapped.
		if len(tree) == found {
			return nil
		}
	}
}
