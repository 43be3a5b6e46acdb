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
	// DryRun is a dry run: the handler says what it would change, and changes nothing.
	DryRun Action = "plan"
	// Undo brings back what was there before another task of the same type and
	// payload changed it.
	Undo Action = "undo"
)

// Task is one request of a customer, as stored.
type Task struct {
	// ID is ours, a UUIDv7.
	ID string `json:"id" doc:"The id that tasker gave the task, a UUIDv7."`
	// Identifier is the customer's, unique within the type.
	Identifier string          `json:"identifier" doc:"Your own name for the task, unique within the type."`
	Type       string          `json:"type" doc:"The task type."`
	Payload    json.RawMessage `json:"payload" doc:"The input of the handler."`
	// Endpoints are the expected ones; nil is a broadcast, performed by
	// everyone who serves the type.
	Endpoints []string `json:"endpoints" doc:"The endpoints that perform the task; null is every endpoint that serves the type."`
	// Labels is the selector by which endpoints were added when the task was stored.
	Labels string `json:"labels,omitempty" doc:"The selector that added endpoints when the task was stored."`
	// Action is what is asked of the handler; Undoes is, with Undo, the task to undo.
	Action Action     `json:"action,omitempty" doc:"plan for a dry run, undo for a task that undoes another task; absent for other tasks."`
	Undoes string     `json:"undoes,omitempty" doc:"The id of the task that this task undoes."`
	Status TaskStatus `json:"status" doc:"The status of the task, which follows from its responses."`
	// Reason says why, for a task that is incomplete with no response at all.
	Reason string `json:"reason" doc:"Why a task without any response is incomplete."`
	Counts Counts `json:"counts" doc:"The number of responses in each status."`

	CreatedAt time.Time `json:"created_at" doc:"When the task was stored."`
	// NotBefore is when the task begins; nil is at once.
	NotBefore *time.Time `json:"not_before,omitempty" doc:"When the task begins; absent if it begins at once."`
	// Rollout is how it is performed in waves; nil is all at once.
	Rollout *Rollout `json:"rollout,omitempty" doc:"The waves of the task and their progress; absent if the task has no waves."`
	// Callback is who is told what becomes of it; nil is nobody.
	Callback *Callback `json:"callback,omitempty" doc:"The URL that receives events of the task; absent if there is none."`
	// FinishedAt is set when every response has ended.
	FinishedAt *time.Time `json:"finished_at" doc:"When the last response ended; null before."`
	// ReceiveTimeout is the time in which all endpoints should receive the task.
	ReceiveTimeout Duration `json:"receive_timeout" doc:"How long endpoints have to receive the task."`
	// ReceiveDeadline is when it ends, by the database's clock.
	ReceiveDeadline time.Time `json:"receive_deadline" doc:"When the receive timeout ends."`
	// Timeout bounds the execution on each endpoint; zero is none.
	Timeout Duration `json:"timeout" doc:"The limit of the execution on each endpoint; 0s is no limit."`

	CancelRequestedAt *time.Time `json:"cancel_requested_at" doc:"When the task was cancelled; null if it was not."`
	CancelRequestedBy string     `json:"cancel_requested_by" doc:"Who cancelled the task."`

	// Version is bumped by each write to the task or to one of its responses.
	Version int64 `json:"version" doc:"Grows with each change of the task or of a response."`
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
	Name     string `json:"name" doc:"The name of the endpoint."`
	Instance string `json:"instance" doc:"Identifies the agent's journal."`
	// Connected: heard of within three heartbeats, and not stopped since.
	Connected bool      `json:"connected" doc:"The agent reported within the last three heartbeats and has not stopped since."`
	FirstSeen time.Time `json:"first_seen" doc:"When the agent first reported."`
	LastSeen  time.Time `json:"last_seen" doc:"When the agent last reported."`
	// EnrolledAt is when it got a secret of its own, RevokedAt since when it is shut
	// out.
	EnrolledAt *time.Time `json:"enrolled_at,omitempty" doc:"When the endpoint was enrolled; absent if it has no secret of its own."`
	RevokedAt  *time.Time `json:"revoked_at,omitempty" doc:"When the endpoint was revoked; absent if it was not."`
	// Types are the configured task types it serves.
	Types []string `json:"types" doc:"The configured task types that the endpoint serves."`
	Presence
}
