package tasker

import (
	"encoding/json"
	"slices"
	"time"
)

// The size limits, in bytes.
const (
	MaxPayload = 1 << 20
	MaxResult  = 256 << 10
)

// Action is the operation that a task requests from its handler.
type Action string

// The actions.
const (
	// Perform executes the task. It is the empty string.
	Perform Action = ""
	// DryRun reports what the handler would change, and changes nothing.
	DryRun Action = "plan"
	// Undo restores the state from before another task of the same type and payload
	// changed it.
	Undo Action = "undo"
)

// Task is one stored request of a client: a payload for a set of endpoints.
type Task struct {
	ID         string          `json:"id" doc:"The id that tasker gave the task, a UUIDv7."`
	Identifier string          `json:"identifier" doc:"Your own name for the task, unique within the type."`
	Type       string          `json:"type" doc:"The task type."`
	Payload    json.RawMessage `json:"payload" doc:"The input of the handler."`
	// Endpoints is nil for a broadcast.
	Endpoints []string   `json:"endpoints" doc:"The endpoints that perform the task; null is every endpoint that serves the type."`
	Labels    string     `json:"labels,omitempty" doc:"The selector that added endpoints when the task was stored."`
	Action    Action     `json:"action,omitempty" doc:"plan for a dry run, undo for a task that undoes another task; absent for other tasks."`
	Undoes    string     `json:"undoes,omitempty" doc:"The id of the task that this task undoes."`
	Status    TaskStatus `json:"status" doc:"The status of the task, which follows from its responses."`
	Reason    string     `json:"reason" doc:"Why a task without any response is incomplete."`
	Counts    Counts     `json:"counts" doc:"The number of responses in each status."`

	CreatedAt      time.Time  `json:"created_at" doc:"When the task was stored."`
	NotBefore      *time.Time `json:"not_before,omitempty" doc:"When the task begins; absent if it begins at once."`
	Rollout        *Rollout   `json:"rollout,omitempty" doc:"The waves of the task and their progress; absent if the task has no waves."`
	Callback       *Callback  `json:"callback,omitempty" doc:"The URL that receives events of the task; absent if there is none."`
	FinishedAt     *time.Time `json:"finished_at" doc:"When the last response ended; null before."`
	ReceiveTimeout Duration   `json:"receive_timeout" doc:"How long endpoints have to receive the task."`
	// ReceiveDeadline follows the database's clock.
	ReceiveDeadline time.Time `json:"receive_deadline" doc:"When the receive timeout ends."`
	Timeout         Duration  `json:"timeout" doc:"The limit of the execution on each endpoint; 0s is no limit."`

	CancelRequestedAt *time.Time `json:"cancel_requested_at" doc:"When the task was cancelled; null if it was not."`
	CancelRequestedBy string     `json:"cancel_requested_by" doc:"Who cancelled the task."`

	Version int64 `json:"version" doc:"Grows with each change of the task or of a response."`
}

// Broadcast reports whether the task is for every endpoint that serves its type.
func (t Task) Broadcast() bool { return t.Endpoints == nil }

// TaskType is a configured kind of task, with its own API path, exchange and handler.
type TaskType struct {
	Name string
	// Handler is the name of the handler that performs the tasks on the agents.
	Handler string
	// Timeout limits the execution; zero means no limit.
	Timeout time.Duration
}

// ServedBy reports whether an agent with this presence can perform the type.
func (t TaskType) ServedBy(p Presence) bool {
	if t.Handler == ScriptHandler {
		return slices.Contains(p.Handlers, t.Handler) && slices.Contains(p.Scripts, t.Name)
	}
	return slices.Contains(p.Handlers, t.Handler)
}

// ScriptHandler is the name of the handler that runs the executable with the name of
// the task type.
const ScriptHandler = "script"

// Control is an operation on a task that a person requested.
type Control struct {
	Action string    `json:"action" doc:"cancel, pause, resume, retry or undo."`
	At     time.Time `json:"at" doc:"When the action was requested."`
	By     string    `json:"by" doc:"Who requested the action."`
}
