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

// Handlers finds handlers by name. *handlers.Mux implements it.
type Handlers interface {
	Lookup(name string) (handlers.Handler, bool)
	// Names lists the handlers, Scripts the task types for which the script handler has a
	// script now.
	Names() []string
	Scripts() []string
	Validate(name string, payload json.RawMessage) error
	// Restart returns the restart contract of a handler for a task type.
	Restart(name, taskType string) handlers.Restart
	// Detached reports whether a handler's work continues without the agent.
	Detached(name string) bool
}

// Leftovers kills processes that an earlier agent process has left running.
type Leftovers interface {
	// Kill returns nil when no process of the task is left. The list may lack a process
	// that was started while the agent was killed.
	Kill(ctx context.Context, processes []handlers.Process, taskID string) error
}

// Options configure an Agent.
type Options struct {
	// Endpoint is the name of the endpoint.
	Endpoint string
	// Version is the version of the program.
	Version string
	Labels  map[string]string
	// MetricsAddress returns the address that is reported to the control plane, for
	// scraping; empty is none. It is called for each hello, never concurrently, because the
	// addresses of a server change. It may be nil.
	MetricsAddress func(context.Context) string

	// Keys are the public keys of the control plane. The agent refuses orders that are
	// signed with none of them. Without keys it accepts every order.
	Keys []ed25519.PublicKey
	// StoreKeys stores the accepted keys, oldest first, when the control plane has
	// introduced another one or one has retired. The next Agent needs them as its Keys.
	// It may be nil.
	StoreKeys func([]ed25519.PublicKey) error

	// Link and Journal must be closed by the caller, after Run.
	Link     transport.Link
	Journal  *journal.Journal
	Handlers Handlers
	// Leftovers may be nil if no handler starts processes.
	Leftovers Leftovers

	// Concurrency is how many assignments of one task type run at a time; zero is 8.
	Concurrency int
	// KillGrace is how long handlers may take to end their processes; zero is
	// handlers.DefaultKillGrace.
	KillGrace time.Duration
	// StopTimeout is how long a stop waits for running handlers before it interrupts
	// them; zero is 30 s.
	StopTimeout time.Duration
	// Connection may be nil. UnauthorizedTimeout is how long it may be refused before the
	// agent ends its assignments as interrupted; zero never ends them.
	Connection          *Connection
	UnauthorizedTimeout time.Duration

	// Started is called when Run has read the journal and the link begins to connect. It
	// may be nil.
	Started func()

	// Clock returns the time since boot, including suspends; nil is the system's clock.
	Clock func() time.Duration
	// Log and Metrics may be nil.
	Log     *slog.Logger
	Metrics *Metrics
}

// The defaults of Options, and the time limits of a stop.
const (
	DefaultConcurrency = 8
	DefaultStopTimeout = 30 * time.Second

	flushTimeout = 5 * time.Second
	// returnGrace is how long handlers may take to return, in addition to KillGrace.
	returnGrace = 5 * time.Second
)
