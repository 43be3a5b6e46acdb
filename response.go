package tasker

import (
	"encoding/json"
	"time"
)

// ResponseStatus is the status of one task on one endpoint.
type ResponseStatus string

// The statuses of a response.
const (
	Pending     ResponseStatus = "pending"     // stored, not yet passed to the transport
	Sent        ResponseStatus = "sent"        // passed to the transport
	Received    ResponseStatus = "received"    // in the agent's journal
	Running     ResponseStatus = "running"     // the handler was started
	Succeeded   ResponseStatus = "succeeded"   // the handler ended without an error
	Failed      ResponseStatus = "failed"      // the handler ended with an error
	TimedOut    ResponseStatus = "timed_out"   // ended by the execution timeout
	Cancelled   ResponseStatus = "cancelled"   // a cancel ended it or prevented its start
	Rejected    ResponseStatus = "rejected"    // the agent refused to start it
	Interrupted ResponseStatus = "interrupted" // the agent lost it or stopped reporting
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

// Ended reports whether the response has reached a final status.
func (s ResponseStatus) Ended() bool { return s.Rank() == 4 }

// Reportable reports whether an agent may report this status.
func (s ResponseStatus) Reportable() bool {
	return s.Rank() >= Received.Rank() && s != Missing && s != Skipped
}

// Progress is the progress that a handler last reported.
type Progress struct {
	Percent float64 `json:"percent" doc:"0 to 100."`
	Message string  `json:"message" doc:"What the handler is doing."`
}

// Response is the stored state of one task on one endpoint. A task is stored together
// with a response for each endpoint that it names.
type Response struct {
	TaskID   string         `json:"-"`
	Endpoint string         `json:"endpoint" doc:"The name of the endpoint."`
	Status   ResponseStatus `json:"status" doc:"The status of the task on this endpoint."`
	// Wave is the number of the endpoint's wave in the rollout, from 1. It is 0 if the
	// response succeeded before the rollout was retried.
	Wave     int             `json:"wave,omitempty" doc:"The number of the endpoint's wave in the rollout, from 1; absent if the endpoint succeeded before the rollout was retried."`
	Attempt  int             `json:"attempt" doc:"The number of the attempt, from 1; each retry makes a new attempt."`
	Reason   string          `json:"reason" doc:"Why the response has not ended, or why it ended without a report of the handler."`
	Error    string          `json:"error" doc:"The error of the handler."`
	Result   json.RawMessage `json:"result" doc:"The result of the handler: any JSON."`
	ExitCode *int            `json:"exit_code" doc:"The exit code of the process; null if there was no process."`
	Progress *Progress       `json:"progress" doc:"The progress that the handler last reported."`
	Presumed bool            `json:"presumed" doc:"The deadline ended the response because the agent did not report; a late report replaces it."`
	Late     bool            `json:"late" doc:"The report arrived after the deadline had ended the response."`

	// SilentSince does not count as a change of the response.
	SilentSince *time.Time `json:"silent_since,omitempty" doc:"When the endpoint last reported, if it should work on the task but is not connected; absent otherwise. After api.lost_after the response is interrupted."`

	SentAt     *time.Time `json:"sent_at" doc:"When the task was handed to the transport. A pending response has it if its order may have been sent although the transport reported an error."`
	ReceivedAt *time.Time `json:"received_at" doc:"When the agent stored the task in its journal."`
	StartedAt  *time.Time `json:"started_at" doc:"When the handler was started."`
	FinishedAt *time.Time `json:"finished_at" doc:"When the response ended."`

	OutputBytes     int64 `json:"output_bytes" doc:"How many bytes the handler printed in total."`
	OutputTruncated bool  `json:"output_truncated" doc:"A part of the output was left out."`

	// Seq is the sequence number of the last update applied to this attempt.
	Seq     int64 `json:"-"`
	Version int64 `json:"version" doc:"The version of the task at the last change of this response."`
}

// StartsAgain reports whether an update is about a second start of an attempt that its
// agent has ended. That happens if the agent has lost its journal and receives the order
// again.
func (r Response) StartsAgain(u Update) bool {
	ended := u.Attempt == r.Attempt && r.Status.Ended() && !r.Presumed
	return ended && u.Status.Reportable() && !u.Status.Ended() &&
		r.FinishedAt != nil && u.ReceivedAt != nil && u.ReceivedAt.After(*r.FinishedAt)
}

// Apply returns the response after an agent's update, and reports whether the update
// changed anything. An update changes nothing if it belongs to another attempt, if its
// Seq is not the highest, if it would lower the rank, or if the agent has already ended
// the response. Apply is pure and idempotent.
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
		r.SentAt = r.ReceivedAt // the report arrived before the response was marked as sent
	}
	return r, true
}
