package tasker

// WavePlan is what a request for a task would come to if it was made now.
type WavePlan struct {
	Type string `json:"type"`
	// Task is the id of the task that the same request has made before; empty if it is
	// new.
	Task string `json:"task,omitempty"`
	// Rollout is what was asked for; nil is all at once.
	Rollout *RolloutSpec `json:"rollout"`
	// Waves are the endpoints in their waves. With the order random they are only as
	// many as they will be.
	Waves [][]string `json:"waves"`
	// Broadcast: it goes to whoever serves the type while it is open, as of now to the
	// one wave.
	Broadcast bool `json:"broadcast"`
	// NotConnected and NotServing are of the endpoints above; the latter could be
	// reached, but would reject the task.
	NotConnected []string `json:"not_connected"`
	NotServing   []string `json:"not_serving"`
}
