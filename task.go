package tasker

import (
	"encoding/json"
	"time"
)

// The sizes tasker accepts, in bytes.
const (
	MaxPayload = 1 << 20
	MaxResult  = 256 << 10
)

// Action is what a task asks of its handler.
type Action string

// The actions.
const (
	// Perform is the task itself; it is the empty text.
	Perform Action = ""
	// Plan is a dry run: the handler says what it would change, and changes nothing.
	Plan Action = "plan"
	// Undo brings back what was there before another task of the same type and
	// payload changed it.
	Undo Action = "undo"
)

// Task is one request of a customer, as stored.
type Task struct {
	// ID is ours, a UUIDv7.
	ID string `json:"id"`
	// Identifier is the customer's, unique within the type.
	Identifier string          `json:"identifier"`
	Type       string          `json:"type"`
	Payload    json.RawMessage `json:"payload"`
	// Endpoints are the expected ones; nil is a broadcast, performed by
	// everyone who serves the type.
	Endpoints []string `json:"endpoints"`
	// Labels is the selector by which endpoints were added when the task was stored.
	Labels string `json:"labels,omitempty"`
	// Action is what is asked of the handler; Undoes is, with Undo, the task to undo.
	Action Action     `json:"action,omitempty"`
	Undoes string     `json:"undoes,omitempty"`
	Status TaskStatus `json:"status"`
	// Reason says why, for a task that is incomplete with no response at all.
	Reason string `json:"reason"`
	Counts Counts `json:"counts"`

	CreatedAt time.Time `json:"created_at"`
	// NotBefore is when the task begins; nil is at once.
	NotBefore *time.Time `json:"not_before,omitempty"`
	// Rollout is how it is performed in waves; nil is all at once.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Callback is who is told what becomes of it; nil is nobody.
	Callback *Callback `json:"callback,omitempty"`
	// FinishedAt is set when every response has ended.
	FinishedAt *time.Time `json:"finished_at"`
	// ReceiveTimeout is the time in which all endpoints should receive the task.
	ReceiveTimeout Duration `json:"receive_timeout"`
	// ReceiveDeadline is when it ends, by the database's clock.
	ReceiveDeadline time.Time `json:"receive_deadline"`
	// Timeout bounds the execution on each endpoint; zero is none.
	Timeout Duration `json:"timeout"`

	CancelRequestedAt *time.Time `json:"cancel_requested_at"`
	CancelRequestedBy string     `json:"cancel_requested_by"`

	// Version is bumped by each write to the task or to one of its responses.
	Version int64 `json:"version"`
}

// Broadcast says whether the task is for everyone who serves its type.
func (t Task) Broadcast() bool { return t.Endpoints == nil }

// TaskType is a kind of task, as configured: one API path, one exchange and
// one handler.
type TaskType struct {
	Name string
	// Handler is the handler that performs it on the agents.
	Handler string
	// Timeout bounds the execution; zero is none.
	Timeout time.Duration
}

// ServedBy says whether an agent with this presence can perform the type.
func (t TaskType) ServedBy(p Presence) bool {
	if t.Handler == ScriptHandler {
		return contains(p.Handlers, t.Handler) && contains(p.Scripts, t.Name)
	}
	return contains(p.Handlers, t.Handler)
}

// ScriptHandler is the name of the handler that runs the executable that is
// named as the task type.
const ScriptHandler = "script"

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Endpoint is a server with an agent, as last heard of.
type Endpoint struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	// Connected: heard of within three heartbeats, and not stopped since.
	Connected bool      `json:"connected"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	// EnrolledAt is when it got a secret of its own, RevokedAt since when it is shut
	// out.
	EnrolledAt *time.Time `json:"enrolled_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	// Types are the configured task types it serves.
	Types []string `json:"types"`
	Presence
}
