package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// smallPayload is the largest payload or final update, in bytes, that is kept in
// memory as well as in the journal.
const smallPayload = 4 << 10

// assignment is one attempt of one task on this endpoint, as it is in memory.
type assignment struct {
	ref        journal.Ref
	identifier string
	taskType   string
	handler    string
	timeout    time.Duration
	action     tasker.Action
	// undoes is the id of the task to undo.
	undoes string
	// payload is kept until the handler returns. If it is empty, it is read from the
	// journal.
	payload json.RawMessage
	// immediate means that one transaction accepted and started the assignment. Its
	// slot in the run queue was reserved before.
	immediate bool

	// The registry's mutex guards the following fields.

	deadline time.Time
	// sequence numbers the assignments in the order of their acceptance.
	sequence uint64
	phase    journal.Phase
	// update is the state to report, without result and output.
	update tasker.Update
	// arrivedAt is the time since boot at which the assignment was received.
	arrivedAt time.Duration
	// finalUpdate is the last update until it is delivered. If it is large, it is nil
	// and read from the journal.
	finalUpdate *tasker.Update
	// ended means that the final update exists; delivered means that it was sent.
	ended, delivered bool
	// waiting means that the assignment is in its run queue.
	waiting bool
	// cancel ends the handler's context; nil unless the assignment is performed.
	cancel context.CancelCauseFunc
	// cancelReason is the reason to report for a cancel, instead of the usual one.
	cancelReason string
	// resumed means that an earlier agent process has started the handler.
	resumed bool
	// detached means that the work may have continued without the agent and that only
	// the handler can end it.
	detached bool

	// restarter alone uses processes, which an earlier agent process has started, and
	// killErr, the reason why they could not be killed.
	processes []handlers.Process
	killErr   error

	// output and progress are safe for concurrent use. output is nil unless the
	// assignment is performed.
	output   atomic.Pointer[output]
	progress atomic.Pointer[tasker.Progress]

	// The reportQueue uses these to list an assignment once. Its mutex guards dueListed
	// and soonListed.
	progressListed        atomic.Bool
	dueListed, soonListed bool
}

// newAssignment makes an assignment from an order.
func newAssignment(taskType string, o tasker.Assignment) *assignment {
	a := &assignment{
		ref: journal.Ref{TaskID: o.TaskID, Attempt: o.Attempt}, identifier: o.Identifier, taskType: taskType,
		handler: o.Handler, timeout: o.Timeout.D(), action: o.Action, undoes: o.Undoes, deadline: o.Deadline,
		phase: journal.Accepted,
	}
	if len(o.Payload) <= smallPayload {
		a.payload = o.Payload
	}
	return a
}

// loadAssignment makes an assignment from a journal entry.
func loadAssignment(e journal.Entry) *assignment {
	return &assignment{
		ref: e.Ref(), identifier: e.Identifier, taskType: e.Type, handler: e.Handler, timeout: e.Timeout.D(),
		action: e.Action, undoes: e.Undoes, deadline: e.Deadline, phase: e.Phase, update: e.LastUpdate,
		ended: e.Phase == journal.Ended, delivered: e.Confirmed, processes: e.Processes,
	}
}

// logger adds the assignment's attributes to a logger.
func (a *assignment) logger(log *slog.Logger) *slog.Logger {
	return log.With("task", a.ref.TaskID, "identifier", a.identifier, "type", a.taskType, "attempt", a.ref.Attempt)
}
