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
	Percent float64 `json:"percent" doc:"0 to 100."` // 0 to 100
	Message string  `json:"message" doc:"What the handler is doing."`
}

// Response is one endpoint's part in one task, as stored. Every named endpoint
// has one from the moment the task is stored.
type Response struct {
	TaskID   string         `json:"-"`
	Endpoint string         `json:"endpoint" doc:"The name of the endpoint."`
	Status   ResponseStatus `json:"status" doc:"The status of the task on this endpoint."`
	// Wave is the wave of a rollout that it belongs to, from 1; 0 if it succeeded
	// before the rollout was retried.
	Wave int `json:"wave,omitempty" doc:"The number of the endpoint's wave in the rollout, from 1; absent if the endpoint succeeded before the rollout was retried."`
	// Attempt counts from 1; each retry makes a new one.
	Attempt int `json:"attempt" doc:"The number of the attempt, from 1; each retry makes a new attempt."`
	// Reason says for a person why the response is not done, or why it ended
	// without the handler's own word.
	Reason string `json:"reason" doc:"Why the response has not ended, or why it ended without a report of the handler."`
	// Error is the handler's error.
	Error    string          `json:"error" doc:"The error of the handler."`
	Result   json.RawMessage `json:"result" doc:"The result of the handler: any JSON."`
	ExitCode *int            `json:"exit_code" doc:"The exit code of the process; null if there was no process."`
	Progress *Progress       `json:"progress" doc:"The progress that the handler last reported."`
	// Presumed: the clock ended it in place of a silent agent; a late report wins.
	Presumed bool `json:"presumed" doc:"The deadline ended the response because the agent did not report; a late report replaces it."`
	// Late: the report came after the clock had ended the response.
	Late bool `json:"late" doc:"The report arrived after the deadline had ended the response."`

	// SilentSince is when the endpoint was last heard of, while it is at this and not
	// connected. It is no change of the response.
	SilentSince *time.Time `json:"silent_since,omitempty" doc:"When the endpoint last reported, if it should work on the task but is not connected; absent otherwise. After api.lost_after the response is interrupted."`

	SentAt     *time.Time `json:"sent_at" doc:"When the task was handed to the transport."`
	ReceivedAt *time.Time `json:"received_at" doc:"When the agent stored the task in its journal."`
	StartedAt  *time.Time `json:"started_at" doc:"When the handler was started."`
	FinishedAt *time.Time `json:"finished_at" doc:"When the response ended."`

	// OutputBytes is what the handler printed, all of it; OutputTruncated says
	// that less was kept.
	OutputBytes     int64 `json:"output_bytes" doc:"How many bytes the handler printed in total."`
	OutputTruncated bool  `json:"output_truncated" doc:"A part of the output was left out."`

	// Seq is the sequence of the last update applied to this attempt.
	Seq int64 `json:"-"`
	// Version is the task's version at which this response last changed.
	Version int64 `json:"version" doc:"The version of the task at the last change of this response."`
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
