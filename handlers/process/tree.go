package process

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tree is all that descends from the command, as its supervisor sees it.
type tree struct {
	command int
	cgroup  string
	grace   time.Duration
	stop    <-chan os.Signal
	// killing: who is still there is to be killed.
	killing atomic.Bool
}

// exited is the end of the command.
type exited struct {
	status syscall.WaitStatus
	// alone: it was the last of the tree.
	alone bool
}

// reap waits for every child until there is none, and so no descendant. The
// channel gets the end of the command, and is closed at the end of the tree.
//
// One that keeps starting another and ending itself is hard to catch by looking
// through all processes. But at each end the next one becomes a child of this
// process, and is killed before it comes to much.
func (t *tree) reap() <-chan exited {
	ended := make(chan exited, 1)
	go func() {
		defer close(ended)
		var e *exited
		for options := 0; ; {
			var ws syscall.WaitStatus
			// WALL: children that tell of their end by another signal count too.
			pid, err := syscall.Wait4(-1, &ws, unix.WALL|options, nil)
			switch {
			case errors.Is(err, syscall.EINTR):
			case err != nil: // ECHILD
				if e != nil {
					e.alone = true
					ended <- *e
				}
				return
			case pid == t.command:
				// Look, without waiting, whether others are left.
				e, options = &exited{status: ws}, syscall.WNOHANG
			case pid == 0:
				ended <- *e
				e, options = nil, 0
			}
			if pid > 0 && t.killing.Load() {
				killSince(pid)
			}
		}
	}()
	return ended
}

// wait returns when the tree is gone, which it sees to once the agent has closed
// the pipe, a signal has come, or the command has ended.
func (t *tree) wait(closed <-chan struct{}, ended <-chan exited) ending {
	var end ending
	select {
	case e := <-ended:
		end.Status = e.status
		if e.alone {
			return end
		}
	case <-closed:
		end.Forced = true
	case <-t.stop:
		end.Forced = true
	}
	t.end(ended, &end)
	return end
}

// end sends SIGTERM, waits for the grace, and sends SIGKILL until none is left.
// What a process starts in answer to its SIGTERM, to clean up, gets none.
func (t *tree) end(ended <-chan exited, end *ending) {
	// An error means that /proc cannot be read now; the kill below tries again.
	_ = signalDescendants(syscall.SIGTERM, make(map[int]bool))
	timer := time.NewTimer(t.grace)
	defer timer.Stop()
	for delay := time.Millisecond; ; {
		select {
		case e, ok := <-ended:
			if !ok {
				return
			}
			end.Status = e.status
			continue
		case <-timer.C:
		}
		t.killing.Store(true)
		killCgroup(t.cgroup)
		_ = signalDescendants(syscall.SIGKILL, make(map[int]bool))
		timer.Reset(delay)
		delay = min(2*delay, 100*time.Millisecond)
	}
}
