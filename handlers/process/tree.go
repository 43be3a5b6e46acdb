package process

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker"
)

// tree is the command and all its descendants, in its supervisor.
type tree struct {
	command int
	cgroup  string
	grace   time.Duration
	signals <-chan os.Signal
	// killing is set after the grace: every remaining process is killed.
	killing atomic.Bool
}

// commandExit is the exit of the command.
type commandExit struct {
	status syscall.WaitStatus
	// treeGone reports whether the command was the last process of the tree.
	treeGone bool
}

// reap reaps children until there are none, and so no descendants. The returned channel
// receives the exit of the command, and is closed when the tree is gone.
//
// A process that keeps starting a successor and ending is hard to kill by listing all
// processes. But whenever such a process ends, its successor becomes a child of the
// supervisor, and reap kills the successor at once.
func (t *tree) reap() <-chan commandExit {
	exits := make(chan commandExit, 1)
	go func() {
		defer close(exits)
		var exit *commandExit
		for options := 0; ; {
			var ws syscall.WaitStatus
			// WALL includes children whose exit signal is not SIGCHLD.
			pid, err := syscall.Wait4(-1, &ws, unix.WALL|options, nil)
			switch {
			case errors.Is(err, syscall.EINTR):
			case err != nil: // ECHILD
				if exit != nil {
					exit.treeGone = true
					exits <- *exit
				}
				return
			case pid == t.command:
				// Check for other children, without waiting, before the exit is sent.
				exit, options = &commandExit{status: ws}, syscall.WNOHANG
			case pid == 0:
				exits <- *exit
				exit, options = nil, 0
			}
			if pid > 0 && t.killing.Load() {
				killChildrenAfter(pid)
			}
		}
	}()
	return exits
}

// wait returns when the tree is gone. It ends the tree when the agent closes the pipe, a
// signal arrives, or the command ends.
func (t *tree) wait(closed <-chan struct{}, exits <-chan commandExit) ending {
	var end ending
	select {
	case exit := <-exits:
		end.Status = exit.status
		if exit.treeGone {
			return end
		}
	case <-closed:
		end.Forced = true
	case <-t.signals:
		end.Forced = true
	}
	t.end(exits, &end)
	return end
}

// end sends SIGTERM, waits for the grace, and sends SIGKILL until no process is left. A
// process that a SIGTERM handler starts to clean up gets no SIGTERM.
func (t *tree) end(exits <-chan commandExit, end *ending) {
	// An error means that /proc is unreadable now. The SIGKILL below tries again.
	found, _ := signalDescendants(syscall.SIGTERM)
	if ended := newProcesses(found); ended.Count > 0 && !end.Forced {
		end.Remaining = &Remaining{Ended: ended, Grace: tasker.Duration(t.grace)}
	}
	timer := time.NewTimer(t.grace)
	defer timer.Stop()
	for delay := time.Millisecond; ; {
		select {
		case exit, ok := <-exits:
			if !ok {
				return
			}
			end.Status = exit.status
			continue
		case <-timer.C:
		}
		if !t.killing.Swap(true) && end.Remaining != nil {
			found, _ := signalDescendants(0)
			end.Remaining.Killed = newProcesses(found)
		}
		killCgroup(t.cgroup)
		_, _ = signalDescendants(syscall.SIGKILL)
		timer.Reset(delay)
		delay = min(2*delay, 100*time.Millisecond)
	}
}
