package journal

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Ref names an assignment.
type Ref = tasker.AssignmentRef

// Phase is how far an assignment has come.
type Phase string

// The phases, in their order.
const (
	// Held is accepted while the control plane's time is unknown. The deadline must
	// still be checked.
	Held Phase = "held"
	// Accepted is to be performed.
	Accepted Phase = "accepted"
	// Starting means that the handler is about to start, or has started.
	Starting Phase = "starting"
	// Ended has a final report.
	Ended Phase = "ended"
)

// Entry is an assignment in the journal, without payload, result and output.
type Entry struct {
	TaskID     string          `json:"task_id"`
	Attempt    int             `json:"attempt"`
	Identifier string          `json:"identifier"`
	Type       string          `json:"type"`
	Handler    string          `json:"handler"`
	Timeout    tasker.Duration `json:"timeout,omitzero"`
	Deadline   time.Time       `json:"deadline,omitzero"`
	Action     tasker.Action   `json:"action,omitempty"`
	Undoes     string          `json:"undoes,omitempty"`
	// Sequence numbers the entries in the order of their acceptance.
	Sequence uint64 `json:"order"`
	Phase    Phase  `json:"phase"`
	// Processes were started by the handler since its last start.
	Processes []handlers.Process `json:"processes,omitempty"`
	// LastUpdate is the last recorded update, without result and output.
	LastUpdate tasker.Update `json:"last"`
	// HasOutput reports whether the final report contains output.
	HasOutput bool `json:"printed,omitempty"`
	// Confirmed reports whether the final report was delivered.
	Confirmed bool `json:"confirmed,omitempty"`
}

// Ref returns the name of the assignment.
func (e Entry) Ref() Ref { return Ref{TaskID: e.TaskID, Attempt: e.Attempt} }

// Tombstone records that an attempt was cancelled. That attempt and earlier ones must not
// start.
type Tombstone struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
	// Deadline is the deadline of the assignment.
	Deadline time.Time `json:"deadline"`
}

// Record is an assignment for Accept.
type Record struct {
	Type       string
	Assignment tasker.Assignment
	// Held records it in the phase Held, Starting in the phase Starting.
	Held, Starting bool
	// Update is its first update. If the status has ended, it is the final report, and
	// the payload is not stored.
	Update tasker.Update
}
