package tasker

import "time"

// Endpoint is a server with an agent, in the state that its agent last reported.
type Endpoint struct {
	Name       string     `json:"name" doc:"The name of the endpoint."`
	Instance   string     `json:"instance" doc:"Identifies the agent's journal."`
	Connected  bool       `json:"connected" doc:"The agent reported within the last three heartbeats and has not stopped since."`
	FirstSeen  time.Time  `json:"first_seen" doc:"When the agent first reported."`
	LastSeen   time.Time  `json:"last_seen" doc:"When the agent last reported."`
	EnrolledAt *time.Time `json:"enrolled_at,omitempty" doc:"When the endpoint was enrolled; absent if it has no secret of its own."`
	RevokedAt  *time.Time `json:"revoked_at,omitempty" doc:"When the endpoint was revoked; absent if it was not."`
	Types      []string   `json:"types" doc:"The configured task types that the endpoint serves."`
	// Labels and ClaimedLabels take the place of Presence.Labels, which is nil here.
	Labels        map[string]string `json:"labels" doc:"The labels that selectors match: the labels from the enrolment token or from an admin. If the endpoint is not enrolled, or the control plane trusts the agents' labels, the claimed labels too."`
	ClaimedLabels map[string]string `json:"claimed_labels" doc:"The labels in the configuration of the agent. They are the agent's own claim."`
	Presence
}

// Presence is the information that an agent reports about itself.
type Presence struct {
	Version   string            `json:"version" doc:"The version of the agent program."`
	Labels    map[string]string `json:"labels" doc:"The labels in the configuration of the agent."`
	Handlers  []string          `json:"handlers" doc:"The handlers of the agent."`
	Scripts   []string          `json:"scripts" doc:"The task types for which the script handler of the agent has an executable."`
	Metrics   string            `json:"metrics" doc:"The host:port of the agent's metrics; empty is none."`
	Running   int               `json:"running" doc:"How many assignments the agent performs now."`
	Waiting   int               `json:"waiting" doc:"How many assignments the agent has accepted and not yet started."`
	Load      float64           `json:"load" doc:"The one-minute load average of the server."`
	Heartbeat Duration          `json:"heartbeat" doc:"The interval of the agent's heartbeats; the control plane sets a longer one for large fleets."`
	Duplicate bool              `json:"duplicate,omitempty" doc:"Another process with the agent's data directory has requested the endpoint's name within the last hour: a cloned server. It is refused while this agent is connected. Only an agent that connects over HTTP reports it."`
	Problem   string            `json:"problem,omitempty" doc:"Why the agent could not accept an order within the last minute, for example because its disk is full; absent if there was no problem."`
	Key       string            `json:"key,omitempty" doc:"The id of the newest signing key that the agent accepts; absent if it is not enrolled."`
}
