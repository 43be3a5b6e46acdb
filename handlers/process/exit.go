package process

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit is the exit of a command.
type Exit struct {
	// Code is the exit code. It is 128 plus the signal's number if a signal killed the
	// command.
	Code int
	// Signal is the signal that killed the command, or zero.
	Signal syscall.Signal
	// Remaining describes the processes that the command left running when it ended by
	// itself; nil if there were none.
	Remaining *Remaining
}

// Err returns nil for exit code 0, and otherwise an error like "exit code 3" or "killed by
// SIGKILL".
func (e Exit) Err() error {
	switch {
	case e.Signal != 0:
		return fmt.Errorf("killed by %s", signalName(e.Signal))
	case e.Code != 0:
		return fmt.Errorf("exit code %d", e.Code)
	}
	return nil
}

func exitOf(end *ending) Exit {
	ws := end.Status
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: ws.Signal(), Remaining: end.Remaining}
	}
	return Exit{Code: ws.ExitStatus(), Remaining: end.Remaining}
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// StartError is returned for a command that could not be started. It wraps the
// syscall.Errno, so that errors.Is(err, fs.ErrNotExist) and the like work.
type StartError struct {
	// What names the failed step and the executable or the directory.
	What string
	Err  error
}

// Error returns the failed step and the reason.
func (e *StartError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// ErrSupervisorLost is returned if the supervisor was killed. The exit of the command is
// then unknown, but nothing of the command runs any more.
var ErrSupervisorLost = errors.New("the supervisor of the command was killed")
