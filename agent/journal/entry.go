package journal

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Ref names an assignment.
type Ref = tasker.AssignmentRef

// Phase says how far an assignment is.
type Phase string

// The phases, in their order.
const (
	// Held: accepted before the control plane's time was known, so that the
	// deadline is still to be checked.
	Held Phase = "held"
	// Accepted: to be performed.
	Accepted Phase = "accepted"
	// Starting: the handler was started, or is about to be.
	Starting Phase = "starting"
	// Ended: nothing is left to do but to report it.
	Ended Phase = "ended"
)

// Entry is what the journal knows of an assignment, but for its payload, result
// and output.
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
	// Order numbers the entries as they were accepted.
	Order uint64 `json:"order"`
	Phase Phase  `json:"phase"`
	// Processes are those started since the entry was last starting.
	Processes []handlers.Process `json:"processes,omitempty"`
	// Last is the last update that was noted, without result and output.
	Last tasker.Update `json:"last"`
	// Printed: there is output in the final report.
	Printed bool `json:"printed,omitempty"`
	// Confirmed: the final report was handed over.
	Confirmed bool `json:"confirmed,omitempty"`
}

// Ref returns the entry's name.
func (e Entry) Ref() Ref { return Ref{TaskID: e.TaskID, Attempt: e.Attempt} }

// Tombstone keeps an assignment, and earlier attempts of it, from starting.
type Tombstone struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
	// Deadline is the assignment's.
	Deadline time.Time `json:"deadline"`
}

// Record is an assignment to be accepted.
type Record struct {
	Type       string
	Assignment tasker.Assignment
	// Held keeps the deadline to be checked later. Starting records the start of
	// the handler at once, as Start does.
	Held, Starting bool
	// Update is the first word about it. When its status is an ended one, it is
	// the final report at once, and the payload is not kept.
	Update tasker.Update
}
