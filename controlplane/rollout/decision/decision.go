// Package decision decides the next step of a rollout. It is pure: the store calls Next
// in the transaction that writes the result, and nothing else changes a rollout's state.
package decision

import (
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// The errors of requests that a rollout refuses in its state.
var (
	// ErrEnded: the rollout has ended, or will end without another wave.
	ErrEnded = errors.New("the rollout has ended")
	// ErrNotPaused: the rollout is not paused.
	ErrNotPaused = errors.New("the rollout is not paused")
	// ErrUndoing: the task is being undone, so it cannot be retried yet.
	ErrUndoing = errors.New("the task is being undone; retry it after that has ended")
)

// Request is what a person wants a rollout to do, as in tasker.Control.
type Request string

// The requests.
const (
	Pause  Request = "pause"
	Resume Request = "resume"
	Retry  Request = "retry"
	Cancel Request = "cancel"
)

// Input is all that a decision depends on.
type Input struct {
	// Task has its rollout, but neither payload nor endpoints.
	Task tasker.Task
	// Blocker describes the rollout that this one waits for before it begins; empty is
	// none.
	Blocker string
	// Failed names some of the endpoints that count as failed, sorted; there are
	// Task.Counts.Failures() of them.
	Failed []string
	// Gate is the result of the gate; nil until it was checked after the wave.
	Gate *GateResult
	// Request is the request to decide on; without one, Next decides how the rollout
	// continues. By is the person.
	Request Request
	By      string
	Now     time.Time
}

// GateResult is the outcome of a check of a gate.
type GateResult struct {
	Passes bool
	// Reason explains to people why the gate does not pass.
	Reason string
}

// Step is a decision: the rollout's new state and an action. At most one of Release,
// Skip, Rollback and Restart is set.
type Step struct {
	State  tasker.RolloutState
	Resume tasker.RolloutState
	Reason string
	Until  *time.Time
	// Accept accepts the failures until now.
	Accept bool
	// Release begins the next wave.
	Release bool
	// Skip ends the responses of waves that have not begun as skipped, with Reason.
	Skip bool
	// Rollback creates the task that undoes this one.
	Rollback bool
	// Restart arranges the endpoints of the new attempt in waves, of which none has
	// begun.
	Restart bool
	// Again is when to decide again if no response changes until then; nil is never.
	Again *time.Time
}

// stay is the step that changes nothing.
func stay(in Input) Step {
	r := in.Task.Rollout
	return Step{State: r.State, Resume: r.Resume, Reason: r.Reason, Until: r.Until}
}

// IsMove reports whether the step changes the state of the rollout or has an action.
func (s Step) IsMove(r tasker.Rollout) bool {
	return s.State != r.State || s.Release || s.Skip || s.Rollback || s.Restart
}
