package tasker

import (
	"encoding/json"
	"time"
)

// Report is a message from an agent to the control plane. Exactly one of Hello,
// Heartbeat, Goodbye and Update is set.
type Report struct {
	Version int `json:"v"`
	// Endpoint is the name of the sending endpoint; the transport verifies it.
	Endpoint string `json:"endpoint"`
	// Instance identifies the agent's journal.
	Instance  string     `json:"instance"`
	Hello     *Hello     `json:"hello,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	Goodbye   *Goodbye   `json:"goodbye,omitempty"`
	Update    *Update    `json:"update,omitempty"`
}

// Hello is an agent's first report after each (re)connection.
type Hello struct {
	Presence
	// Session is a random id, new for each hello.
	Session string `json:"session"`
	// Unfinished are the assignments in the journal whose final report has not been
	// confirmed. The agent has lost every other assignment that has not ended.
	Unfinished []AssignmentRef `json:"unfinished"`
}

// AssignmentRef identifies an assignment of the sending endpoint.
type AssignmentRef struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
}

// Heartbeat reports at regular intervals that the agent is alive.
type Heartbeat struct {
	Presence
}

// Goodbye reports that the agent was stopped deliberately.
type Goodbye struct{}

// Update reports the state of an assignment. It carries the whole state, not a change,
// so only the update with the highest Seq matters, and agents may skip updates that a
// newer one replaces. Output is the exception: each chunk is stored at its offset, and
// chunks may arrive twice.
type Update struct {
	TaskID  string `json:"task_id"`
	Type    string `json:"type"`
	Attempt int    `json:"attempt"`
	// Seq increases with each update of the attempt, also across restarts.
	Seq      int64           `json:"seq"`
	Status   ResponseStatus  `json:"status"`
	Reason   string          `json:"reason,omitempty"`
	Error    string          `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	ExitCode *int            `json:"exit_code,omitempty"`
	Progress *Progress       `json:"progress,omitempty"`

	// The times follow the control plane's clock, as far as the agent knows it.
	ReceivedAt *time.Time `json:"received_at,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`

	Output          []Chunk `json:"output,omitempty"`
	OutputBytes     int64   `json:"output_bytes,omitempty"`
	OutputTruncated bool    `json:"output_truncated,omitempty"`
}

// Chunk is a piece of a handler's output, at its offset in bytes.
type Chunk struct {
	Offset int64  `json:"offset" doc:"The position of the piece in the output, in bytes."`
	Data   []byte `json:"data" doc:"The piece, in base64."`
}
