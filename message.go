package tasker

import (
	"encoding/json"
	"time"
)

// The versions of the messages below. A reader ignores fields it does not know and
// refuses a message of a higher version than MaxWireVersion.
const (
	// WireVersion is that of all messages but the following.
	WireVersion = 1
	// ActionVersion is that of an order whose assignment has an Action: an agent that
	// knows of none would perform the task.
	ActionVersion = 2

	MaxWireVersion = ActionVersion
)

// AllEndpoints is the address of an order to all who serve its type. It is no valid
// endpoint name.
const AllEndpoints = "*all*"

// Order is what the control plane sends. Exactly one of Assignment, Cancel and
// Welcome is set.
type Order struct {
	Version int `json:"v"`
	// Endpoint is the address: an endpoint's name or AllEndpoints.
	Endpoint string `json:"endpoint"`
	// Type is the task type; empty on a welcome.
	Type       string      `json:"type,omitempty"`
	Assignment *Assignment `json:"assignment,omitempty"`
	Cancel     *Cancel     `json:"cancel,omitempty"`
	Welcome    *Welcome    `json:"welcome,omitempty"`
	// Expires is when the order is of no more use and the transport may drop it, by the
	// clock of the machine that sends it; zero is never.
	Expires time.Time `json:"expires,omitzero"`
	// Signature is reserved for the control plane's signature of the order.
	Signature []byte `json:"signature,omitempty"`
}

// Assignment tells one endpoint to perform one task. (TaskID, endpoint, Attempt)
// names it; sending the same one again is always safe.
type Assignment struct {
	TaskID     string          `json:"task_id"`
	Identifier string          `json:"identifier"`
	Attempt    int             `json:"attempt"`
	Handler    string          `json:"handler"`
	Payload    json.RawMessage `json:"payload"`
	// Timeout bounds the execution; zero is none.
	Timeout Duration `json:"timeout"`
	// Deadline is when it must have been received, by the control plane's clock.
	Deadline time.Time `json:"deadline"`
	// Action is what is asked for; an order with one other than Perform has the
	// version ActionVersion.
	Action Action `json:"action,omitempty"`
	// Undoes is, with Undo, the id of the task to undo.
	Undoes string `json:"undoes,omitempty"`
}

// Cancel tells an endpoint to end an assignment or, as a tombstone, never to
// start it.
type Cancel struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
	// Deadline is the assignment's; the tombstone is of no use an hour past it.
	Deadline time.Time `json:"deadline"`
	// Broadcast: the endpoint was not asked by name, so an agent that does not
	// know the assignment says nothing.
	Broadcast bool `json:"broadcast,omitempty"`
}

// Welcome answers a hello.
type Welcome struct {
	// Session is the hello's, so that a stale welcome is recognised.
	Session string `json:"session"`
	// Now is the control plane's time.
	Now time.Time `json:"now"`
	// Heartbeat is the interval at which heartbeats are expected. A further welcome
	// of the same session changes it.
	Heartbeat Duration `json:"heartbeat"`
}

// Report is what an agent sends. Exactly one of Hello, Heartbeat, Goodbye and
// Update is set.
type Report struct {
	Version int `json:"v"`
	// Endpoint is who speaks; the transport checks it.
	Endpoint string `json:"endpoint"`
	// Instance identifies the agent's journal.
	Instance  string     `json:"instance"`
	Hello     *Hello     `json:"hello,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	Goodbye   *Goodbye   `json:"goodbye,omitempty"`
	Update    *Update    `json:"update,omitempty"`
}

// Presence is what an agent says of itself.
type Presence struct {
	// Version is the agent program's.
	Version string            `json:"version" doc:"The version of the agent program."`
	Labels  map[string]string `json:"labels" doc:"The labels in the configuration of the agent."`
	// Handlers are the names of its handlers, Scripts the task types for which
	// its script handler has an executable.
	Handlers []string `json:"handlers" doc:"The handlers of the agent."`
	Scripts  []string `json:"scripts" doc:"The task types for which the script handler of the agent has an executable."`
	// Metrics is the host:port of its metrics; empty is none.
	Metrics string `json:"metrics" doc:"The host:port of the agent's metrics; empty is none."`
	// Running is the number of assignments being performed, Waiting of those
	// accepted and not yet started.
	Running int `json:"running" doc:"How many assignments the agent performs now."`
	Waiting int `json:"waiting" doc:"How many assignments the agent has accepted and not yet started."`
	// Load is the server's one-minute load average.
	Load float64 `json:"load" doc:"The one-minute load average of the server."`
	// Heartbeat is the interval at which it sends heartbeats.
	Heartbeat Duration `json:"heartbeat" doc:"The interval of the agent's heartbeats; the control plane sets a longer one for large fleets."`
}

// Hello is an agent's first report after each (re)connection.
type Hello struct {
	Presence
	// Session is chosen anew for each hello.
	Session string `json:"session"`
	// Unfinished are the assignments in the journal whose final report has not
	// been confirmed: what is not among them and not ended, the agent has lost.
	Unfinished []AssignmentRef `json:"unfinished"`
}

// AssignmentRef names an assignment of the endpoint that speaks.
type AssignmentRef struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
}

// Heartbeat says that the agent lives, and how it is.
type Heartbeat struct {
	Presence
}

// Goodbye says that the agent was stopped on purpose.
type Goodbye struct{}

// Update says what became of an assignment. It carries the whole state of the
// assignment, not a change, so only the one with the highest Seq matters, and an
// agent may leave out those that a newer one replaces. Output is the exception:
// each piece is kept under its offset, and pieces may come twice.
type Update struct {
	TaskID  string `json:"task_id"`
	Type    string `json:"type"`
	Attempt int    `json:"attempt"`
	// Seq increases with each update of the attempt, over restarts too.
	Seq      int64           `json:"seq"`
	Status   ResponseStatus  `json:"status"`
	Reason   string          `json:"reason,omitempty"`
	Error    string          `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	ExitCode *int            `json:"exit_code,omitempty"`
	Progress *Progress       `json:"progress,omitempty"`

	// The times are the control plane's, as far as the agent knows them.
	ReceivedAt *time.Time `json:"received_at,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`

	Output          []Chunk `json:"output,omitempty"`
	OutputBytes     int64   `json:"output_bytes,omitempty"`
	OutputTruncated bool    `json:"output_truncated,omitempty"`
}

// Chunk is a piece of what a handler printed, at its true offset in bytes.
type Chunk struct {
	Offset int64  `json:"offset" doc:"The position of the piece in the output, in bytes."`
	Data   []byte `json:"data" doc:"The piece, in base64."`
}
