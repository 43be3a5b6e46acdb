// Package handlers defines how an agent performs tasks on its server: a Handler performs
// the tasks of one or more types, and a Mux finds a handler by name. The built-in handlers
// are in the packages below this one; programs can compile in handlers of their own.
package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Handler performs the assignments of one or more task types.
type Handler interface {
	// Info describes the handler. It always returns the same value.
	Info() Info
	// Handle performs one assignment and returns its result. It must be safe for
	// concurrent use.
	//
	// A task's timeout is the deadline of ctx. Handle must return soon after ctx is done,
	// and nothing that it started may run any more (for an exception see Info.Detached).
	// context.Cause(ctx) is then ErrCancelled, ErrTimedOut, ErrStopping or
	// ErrUnauthorized.
	//
	// An error made by Reject means that nothing was started. A nil error means that the
	// work is complete, even if ctx is done too.
	Handle(ctx context.Context, call Call) (Result, error)
}

// Restart is the restart contract of a handler: it decides what happens to an assignment
// that was running when the agent went down.
type Restart string

// The restart contracts.
const (
	// RestartNever reports the assignment as interrupted. It is the default.
	RestartNever Restart = "never"
	// RestartRetry calls Handle again from the beginning.
	RestartRetry Restart = "retry"
	// RestartResume calls Handle again with Call.Resumed set.
	RestartResume Restart = "resume"
)

// Info describes a handler.
type Info struct {
	Name string
	// Summary is one sentence for people.
	Summary string
	// Schema is the JSON Schema (2020-12) of the payload; nil accepts any payload.
	Schema json.RawMessage
	// Check rejects a payload that matches Schema but that no agent would perform, such as
	// one with fields that exclude each other; nil accepts every payload. The control plane
	// calls it when a task is created, and the agent again. So it must depend on neither the
	// agent's configuration nor the server. See CheckOf.
	Check func(payload json.RawMessage) error
	// Restart is RestartNever when empty.
	Restart Restart
	// CanDryRun and CanUndo report whether Handle may be called with the actions
	// tasker.DryRun and tasker.Undo.
	CanDryRun, CanUndo bool
	// UndoRequires names a payload field. The control plane refuses to roll back a task
	// whose payload lacks it. Empty means that every task can be rolled back.
	UndoRequires string
	// Detached reports whether the work continues without the agent. When the agent
	// stops, ctx is done at once and Handle returns with the work still running. The next
	// agent process calls Handle again, even if the assignment was cancelled meanwhile:
	// ctx is then already done and Handle must end the work. Restart must be
	// RestartResume.
	Detached bool
}

// Call is one assignment, as a handler receives it.
type Call struct {
	TaskID     string
	Identifier string
	Endpoint   string
	Type       string
	Attempt    int
	// Payload matches Info.Schema.
	Payload json.RawMessage
	// Action selects what Handle does, and is limited to the actions that Info permits.
	//
	//   - tasker.Perform performs the task.
	//   - tasker.DryRun is a dry run: it changes nothing, and its result lists the changes
	//     that performing the task would make.
	//   - tasker.Undo restores the state from before the task with the id Undoes, which
	//     had the same payload. It succeeds without a change if that task has changed
	//     nothing or was undone already.
	Action tasker.Action
	// Undoes is the id of the task to undo, if Action is tasker.Undo.
	Undoes string
	// Resumed reports whether an earlier agent process has already started this
	// assignment.
	Resumed bool
	// Output receives text for people. It is safe for concurrent use and never fails.
	Output io.Writer
	// OutputBytes is the size of the output that earlier agent processes have recorded.
	// Text written to Output is appended to it.
	OutputBytes int64
	// Progress reports the percentage done (0 to 100) and the current step. It may be
	// called at any rate: only the latest progress is reported at intervals.
	Progress func(percent float64, message string)
	// RecordProcess must be called with each process right after its start. If the agent
	// is killed, its next process uses the record to end what is left of the work.
	RecordProcess func(Process) error
}

// Process identifies a process tree that a handler has started.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot. It
	// distinguishes the process from a later one with the same PID.
	StartTime uint64 `json:"start_time"`
	// Cgroup is the path of the process tree's own cgroup v2, or empty if it has none.
	Cgroup string `json:"cgroup,omitempty"`
}

// Result is the result of an assignment.
type Result struct {
	// Value is stored as JSON of at most 256 KiB; nil is stored as null.
	Value any
	// ExitCode is the exit code of the process, or nil if there was no process.
	ExitCode *int
}

// The causes of a handler's context.
var (
	ErrCancelled = errors.New("cancelled")
	ErrTimedOut  = errors.New("execution timeout")
	ErrStopping  = errors.New("agent is stopping")
	// ErrUnauthorized: the control plane does not accept the agent's credential.
	ErrUnauthorized = errors.New("the control plane refuses this agent")
)

// RejectError is returned for an assignment that was refused before anything was started.
type RejectError struct{ Reason string }

// Error returns the reason.
func (e *RejectError) Error() string { return e.Reason }

// Reject returns a *RejectError with a formatted reason.
func Reject(format string, args ...any) error {
	return &RejectError{Reason: fmt.Sprintf(format, args...)}
}

// DefaultKillGrace is the default time between SIGTERM and SIGKILL.
const DefaultKillGrace = 10 * time.Second
