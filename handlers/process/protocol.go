package process

import (
	"syscall"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// The file descriptors of the supervisor's ends of the pipes to the runner. The runner sends
// one request. When it closes the pipe, the supervisor ends the process tree.
const (
	requestFD = 3
	reportFD  = 4
)

// request is the message from the runner to the supervisor.
type request struct {
	Argv   []string        `json:"argv"`
	Env    []string        `json:"env"`
	Dir    string          `json:"dir"`
	Grace  tasker.Duration `json:"grace"`
	Cgroup string          `json:"cgroup,omitempty"`
}

// report is a message from the supervisor to the runner. The supervisor sends Started or
// Failed and, after Started, Ended when the process tree is gone.
type report struct {
	Started *handlers.Process `json:"started,omitempty"`
	Failed  *failure          `json:"failed,omitempty"`
	Ended   *ending           `json:"ended,omitempty"`
}

// failure is the reason why a command was not started.
type failure struct {
	What  string        `json:"what"`
	Errno syscall.Errno `json:"errno"`
}

// ending is the end of a process tree.
type ending struct {
	// Status is the status of the command.
	Status syscall.WaitStatus `json:"status"`
	// Forced reports whether the tree was ended before the command had ended by itself.
	Forced bool `json:"forced"`
	// Remaining is nil if no process was left when the command had ended by itself.
	Remaining *Remaining `json:"remaining,omitempty"`
}
