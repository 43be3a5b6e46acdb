package tasker

import (
	"encoding/json"
	"time"
)

// ResponseStatus says where one endpoint stands with one task.
type ResponseStatus string

// The statuses of a response.
const (
	Pending     ResponseStatus = "pending"     // stored, not yet handed to the transport
	Sent        ResponseStatus = "sent"        // handed to the transport
	Received    ResponseStatus = "received"    // in the agent's journal
	Running     ResponseStatus = "running"     // the handler was started
	Succeeded   ResponseStatus = "succeeded"   // the handler ended without an error
	Failed      ResponseStatus = "failed"      // the handler ended with an error
	TimedOut    ResponseStatus = "timed_out"   // ended by the execution timeout
	Cancelled   ResponseStatus = "cancelled"   // ended, or never started, by a cancel
	Rejected    ResponseStatus = "rejected"    // the agent refused to start it
	Interrupted ResponseStatus = "interrupted" // the agent lost it or fell silent
	Missing     ResponseStatus = "missing"     // not received before the receive deadline
	Skipped     ResponseStatus = "skipped"     // a rollout stopped before this endpoint
)

// ResponseStatuses lists every status of a response, in the order of its life.
func ResponseStatuses() []ResponseStatus {
	return []ResponseStatus{
		Pending, Sent, Received, Running, Succeeded, Failed, TimedOut,
		Cancelled, Rejected, Interrupted, Missing, Skipped,
	}
}

// Rank orders the statuses: a response never moves to a lower rank within an
// attempt, and all ended statuses share the highest. Unknown statuses have -1.
func (s ResponseStatus) Rank() int {
	switch s {
	case Pending:
		return 0
	case Sent:
		return 1
	case Received:
		return 2
	case Running:
		return 3
	case Succeeded, Failed, TimedOut, Cancelled, Rejected, Interrupted, Missing, Skipped:
		return 4
	}
	return -1
}

// Ended says whether nothing more is expected of the response.
func (s ResponseStatus) Ended() bool { return s.Rank() == 4 }

// Reportable says whether an agent may report this status.
func (s ResponseStatus) Reportable() bool {
	return s.Rank() >= Received.Rank() && s != Missing && s != Skipped
}

// Progress is what a handler last said about how far it is.
type Progress struct {
	Percent float64 `json:"percent"` // 0 to 100
	Message string  `json:"message"`
}

// Response is one endpoint's part in one task, as stored. Every named endpoint
// has one from the moment the task is stored.
type Response struct {
	TaskID   string         `json:"-"`
	Endpoint string         `json:"endpoint"`
	Status   ResponseStatus `json:"status"`
	// Wave is the wave of a rollout that it belongs to, from 1; 0 if it succeeded
	// before the rollout was retried.
	Wave int `json:"wave,omitempty"`
	// Attempt counts from 1; each retry makes a new one.
	Attempt int `json:"attempt"`
	// Reason says for a person why the response is not done, or why it ended
	// without the handler's own word.
	Reason string `json:"reason"`
	// Error is the handler's error.
	Error    string          `json:"error"`
	Result   json.RawMessage `json:"result"`
	ExitCode *int            `json:"exit_code"`
	Progress *Progress       `json:"progress"`
	// Presumed: the clock ended it in place of a silent agent; a late report wins.
	Presumed bool `json:"presumed"`
	// Late: the report came after the clock had ended the response.
	Late bool `json:"late"`

	// SilentSince is when the endpoint was last heard of, while it is at this and not
	// connected. It is no change of the response.
	SilentSince *time.Time `json:"silent_since,omitempty"`

	SentAt     *time.Time `json:"sent_at"`
	ReceivedAt *time.Time `json:"received_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`

	// OutputBytes is what the handler printed, all of it; OutputTruncated says
	// that less was kept.
	OutputBytes     int64 `json:"output_bytes"`
	OutputTruncated bool  `json:"output_truncated"`

	// Seq is the sequence of the last update applied to this attempt.
	Seq int64 `json:"-"`
	// Version is the task's version at which this response last changed.
	Version int64 `json:"version"`
}

// Apply returns the response after an agent's update and whether the update
// changed anything. Updates of another attempt, repeated or overtaken ones
// (by Seq), ones that would move down in rank, and ones for a response that the
// agent itself has ended change nothing. It is pure and idempotent.
func (r Response) Apply(u Update) (Response, bool) {
	switch {
	case u.Attempt != r.Attempt, u.Seq <= r.Seq, !u.Status.Reportable():
		return r, false
	case r.Status.Ended() && !r.Presumed:
		return r, false
	case !r.Presumed && u.Status.Rank() < r.Status.Rank():
		return r, false
	}
	r.Late = r.Late || r.Presumed
	r.Presumed = false
	r.Status, r.Seq = u.Status, u.Seq
	r.Reason, r.Error, r.Result, r.ExitCode = u.Reason, u.Error, u.Result, u.ExitCode
	r.Progress = u.Progress
	r.ReceivedAt, r.StartedAt, r.FinishedAt = u.ReceivedAt, u.StartedAt, u.FinishedAt
	r.OutputBytes, r.OutputTruncated = u.OutputBytes, u.OutputTruncated
	if r.ReceivedAt != nil && (r.SentAt == nil || r.SentAt.After(*r.ReceivedAt)) {
		r.SentAt = r.ReceivedAt // the report overtook the note that it was sent
	}
	return r, true
}
