package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Handlers is what an agent needs of a *handlers.Mux.
type Handlers interface {
	Lookup(name string) (handlers.Handler, bool)
	// Names lists the handlers, Scripts the task types that the script handler
	// can perform at this moment.
	Names() []string
	Scripts() []string
	Validate(name string, payload json.RawMessage) error
	// Restart is the restart contract of a handler for a task type.
	Restart(name, taskType string) handlers.Restart
	// Detached says whether a handler's work goes on without the agent.
	Detached(name string) bool
}

// Leftovers ends what an earlier agent process has left running.
type Leftovers interface {
	// Kill returns when nothing of the task's processes is left. The list may
	// lack one that was started when the agent was killed.
	Kill(ctx context.Context, processes []handlers.Process, taskID string) error
}

// Options say what an Agent is and works with.
type Options struct {
	// Endpoint is the name under which the agent subscribes.
	Endpoint string
	// Version is the program's.
	Version string
	Labels  map[string]string
	// MetricsAddress is stated to the control plane, so that it can be scraped.
	MetricsAddress string

	// Keys are the control plane's: an order that is signed with none of them is
	// refused. Without any, every order is taken.
	Keys []ed25519.PublicKey

	// Link and Journal are the caller's to close, after Run.
	Link     transport.Link
	Journal  *journal.Journal
	Handlers Handlers
	// Leftovers may be nil where no handler starts processes.
	Leftovers Leftovers

	// Concurrency bounds how many assignments of one task type run at a time;
	// zero is 8.
	Concurrency int
	// KillGrace is how long handlers may take to end their processes; zero is
	// handlers.DefaultKillGrace.
	KillGrace time.Duration
	// StopTimeout is how long a stop waits for running assignments before it
	// ends them; zero is 30 s.
	StopTimeout time.Duration

	// Started is told when Run has read the journal and the link begins to
	// connect; it may be nil.
	Started func()

	// Clock is the time since boot, suspends included; nil is the system's.
	Clock func() time.Duration
	// Log and Metrics may be nil.
	Log     *slog.Logger
	Metrics *Metrics
}

// The defaults of Options, and limits of a stop.
const (
	DefaultConcurrency = 8
	DefaultStopTimeout = 30 * time.Second

	flushTimeout = 5 * time.Second
	// returnGrace is added to KillGrace when handlers are waited for.
	returnGrace = 5 * time.Second
)
