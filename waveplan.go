package tasker

// WavePlan is what a request for a task would come to if it was made now.
type WavePlan struct {
	Type string `json:"type" doc:"The task type."`
	// Task is the id of the task that the same request has made before; empty if it is
	// new.
	Task string `json:"task,omitempty" doc:"The id of the task that the same request has already made; absent if the task would be new."`
	// Rollout is what was asked for; nil is all at once.
	Rollout *RolloutSpec `json:"rollout" doc:"The requested rollout; null if the task has no waves."`
	// Waves are the endpoints in their waves. With the order random they are only as
	// many as they will be.
	Waves [][]string `json:"waves" doc:"The endpoints of each wave; with the order random only the size of each wave is certain."`
	// Broadcast: it goes to whoever serves the type while it is open, as of now to the
	// one wave.
	Broadcast bool `json:"broadcast" doc:"The task reaches every endpoint that serves the type until the receive deadline; the one wave lists those known now."`
	// NotConnected and NotServing are of the endpoints above; the latter could be
	// reached, but would reject the task.
	NotConnected []string `json:"not_connected" doc:"The endpoints that are not connected, or are revoked."`
	NotServing   []string `json:"not_serving" doc:"The endpoints that are connected but would reject the task."`
}
