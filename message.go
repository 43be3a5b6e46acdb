package tasker

import (
	"encoding/json"
	"time"
)

// The versions of orders and reports. A receiver ignores unknown fields and refuses
// messages with a version above MaxWireVersion.
const (
	// WireVersion is the version of all other messages.
	WireVersion = 1
	// ActionVersion is the version of an order whose assignment has an Action. An
	// agent that does not know actions would execute the task.
	ActionVersion = 2

	// MaxWireVersion is the highest version that this program understands.
	MaxWireVersion = ActionVersion
)

// AllEndpoints addresses an order to every endpoint that serves its type. It is not a
// valid endpoint name.
const AllEndpoints = "*all*"

// Order is a message from the control plane to an agent. Exactly one of Assignment,
// Cancel and Welcome is set.
type Order struct {
	Version int `json:"v"`
	// Endpoint is the name of the receiving endpoint, or AllEndpoints.
	Endpoint string `json:"endpoint"`
	// Type is the task type; empty on a welcome.
	Type       string      `json:"type,omitempty"`
	Assignment *Assignment `json:"assignment,omitempty"`
	Cancel     *Cancel     `json:"cancel,omitempty"`
	Welcome    *Welcome    `json:"welcome,omitempty"`
	// Expires is when the transport may drop the order, by the clock of the sender;
	// zero means never.
	Expires time.Time `json:"expires,omitzero"`
	// Signature is the control plane's Ed25519 signature; see Sign.
	Signature []byte `json:"signature,omitempty"`
}

// Assignment is one attempt of one task on one endpoint. TaskID, endpoint and Attempt
// identify it; it is always safe to send the same assignment again.
type Assignment struct {
	TaskID     string          `json:"task_id"`
	Identifier string          `json:"identifier"`
	Attempt    int             `json:"attempt"`
	Handler    string          `json:"handler"`
	Payload    json.RawMessage `json:"payload"`
	// Timeout limits the execution; zero means no limit.
	Timeout Duration `json:"timeout"`
	// Deadline is the receive deadline, by the control plane's clock.
	Deadline time.Time `json:"deadline"`
	// Action is the requested operation. An order with an action other than Perform
	// has the version ActionVersion.
	Action Action `json:"action,omitempty"`
	// Undoes is the id of the task to undo; it is set with the action Undo only.
	Undoes string `json:"undoes,omitempty"`
}

// Cancel orders an endpoint to end an assignment. If the endpoint has not received the
// assignment yet, the cancel becomes a tombstone and the assignment never starts.
type Cancel struct {
	TaskID  string `json:"task_id"`
	Attempt int    `json:"attempt"`
	// Deadline is the receive deadline of the assignment. The tombstone is kept for an
	// hour after it.
	Deadline time.Time `json:"deadline"`
	// Broadcast is true if the task did not name the endpoint. An agent that does not
	// know the assignment then sends no report.
	Broadcast bool `json:"broadcast,omitempty"`
}

// Welcome is the control plane's answer to a hello.
type Welcome struct {
	// Session is the session of the hello, so that agents can ignore a stale welcome.
	Session string `json:"session"`
	// Now is the current time of the control plane.
	Now time.Time `json:"now"`
	// Heartbeat is the interval at which the agent sends heartbeats. A later welcome
	// of the same session changes it.
	Heartbeat Duration `json:"heartbeat"`
	// Keys introduce the keys that sign orders, oldest first. The signature of the order
	// does not cover them: each has its own.
	Keys []Endorsement `json:"keys,omitempty"`
}
