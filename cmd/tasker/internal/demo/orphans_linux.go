package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// killOrphans kills the children of this process until there are none. The kernel makes
// this process the parent of what the programs leave behind, see newFleet.
func killOrphans() error {
	for {
		for _, pid := range children() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
		}
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return nil
		case err != nil && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("wait for orphaned processes: %w", err)
		case pid == 0: // killed, but not ended yet
			<-time.After(5 * time.Millisecond)
		}
	}
}

// children returns the process ids of this process's children.
func children() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, file := range stats {
		stat, err := os.ReadFile(file) //nolint:gosec // below /proc
		if err != nil {
			continue // it has ended
		}
		// The name is in parentheses and may contain any character; the state and the parent follow.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
