// Package handlers is what performs tasks on a server: the Handler interface,
// which anybody may implement and compile in, and the Mux that finds a handler
// by its name. The built-in handlers are in the packages below this one.
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
	// Info describes the handler; it is constant.
	Info() Info
	// Handle performs one assignment and returns its result. It is called from
	// many goroutines at once. It must return soon after ctx is done, with
	// nothing of its work left running (but see Info.Detached); context.Cause(ctx)
	// then is ErrCancelled, ErrTimedOut or ErrStopping. A task's timeout is ctx's
	// deadline. An error made by Reject means that nothing was started. A nil error
	// means that the work is done, even if ctx is done too.
	Handle(ctx context.Context, call Call) (Result, error)
}

// Restart says what an agent does with an assignment that was running when the
// agent went down.
type Restart string

// The restart contracts.
const (
	// RestartNever reports it as interrupted. It is the default.
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
	// Schema is the JSON Schema (2020-12) of the payload; nil takes anything.
	Schema json.RawMessage
	// Restart is RestartNever when empty.
	Restart Restart
	// Plans and Undoes: Handle may be called with these actions.
	Plans, Undoes bool
	// UndoNeeds is the field of the payload without which a task cannot be undone;
	// empty is none. The control plane then refuses a rollback of a task without it.
	UndoNeeds string
	// Detached: the work goes on without the agent. When the agent stops, it does
	// not wait for the work: Handle is told at once, and returns with the work still
	// running. Handle is called again by the next agent process, even if the
	// assignment was cancelled meanwhile; ctx is done then, and Handle is to end the
	// work. Restart must be RestartResume.
	Detached bool
}

// Call is one assignment, as a handler sees it.
type Call struct {
	TaskID     string
	Identifier string
	Endpoint   string
	Type       string
	Attempt    int
	// Payload has been checked against Info.Schema.
	Payload json.RawMessage
	// Action is what to do: perform the task, say what it would change (Plan; the
	// result is the plan), or bring back what was there before the task Undoes, which
	// had this payload, changed it on this server (Undo). A handler is called with the
	// actions only that its Info names. Undoing what has changed nothing, or was undone
	// before, succeeds and changes nothing.
	Action tasker.Action
	// Undoes is, with tasker.Undo, the id of the task to undo.
	Undoes string
	// Resumed: an earlier agent process had already started this assignment.
	Resumed bool
	// Output is what people read; it is safe for concurrent use and never fails.
	Output io.Writer
	// OutputBytes is how much of the output was recorded by earlier agent processes;
	// what is written to Output follows it.
	OutputBytes int64
	// Progress says how far the work is (0 to 100) and what it is at. It may be
	// called as often as one likes: only the last one in a while is reported.
	Progress func(percent float64, message string)
	// Spawned is to be called with each process right after its start, so that
	// an agent that was killed can clean up when it is back.
	Spawned func(Process) error
}

// Process identifies a process tree that a handler started.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot: with
	// it a PID that was used again is not mistaken.
	StartTime uint64 `json:"start_time"`
	// Cgroup is the path of the process tree's own cgroup v2; empty where none
	// could be made.
	Cgroup string `json:"cgroup,omitempty"`
}

// Result is what a handler returns.
type Result struct {
	// Value is stored as JSON, 256 KiB at most; nil is null.
	Value any
	// ExitCode is that of the process, where there was one.
	ExitCode *int
}

// The causes of a handler's context.
var (
	ErrCancelled = errors.New("cancelled")
	ErrTimedOut  = errors.New("execution timeout")
	ErrStopping  = errors.New("agent is stopping")
)

// RejectError says that an assignment was refused before anything was started.
type RejectError struct{ Reason string }

// Error returns the reason.
func (e *RejectError) Error() string { return e.Reason }

// Reject makes a *RejectError.
func Reject(format string, args ...any) error {
	return &RejectError{Reason: fmt.Sprintf(format, args...)}
}

// DefaultKillGrace is the time between SIGTERM and SIGKILL.
const DefaultKillGrace = 10 * time.Second
