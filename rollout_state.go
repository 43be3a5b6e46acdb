package tasker

import "time"

// RolloutState is the state of a rollout.
type RolloutState string

// The states of a rollout.
const (
	RolloutScheduled   RolloutState = "scheduled"    // the start time is in the future
	RolloutWaiting     RolloutState = "waiting"      // an exclusive rollout holds one of the endpoints
	RolloutRunning     RolloutState = "running"      // a wave is in progress
	RolloutSoaking     RolloutState = "soaking"      // between two waves, for the time pause_between
	RolloutGating      RolloutState = "gating"       // between two waves, the gate is checked
	RolloutPaused      RolloutState = "paused"       // waits for a person to resume it
	RolloutRollingBack RolloutState = "rolling_back" // stopped; running endpoints finish, then the task is undone
	RolloutStopped     RolloutState = "stopped"      // ended by failures
	RolloutCancelled   RolloutState = "cancelled"    // ended by a cancel
	RolloutFinished    RolloutState = "finished"     // ended after the last wave
	RolloutPlanned     RolloutState = "planned"      // the waves of a request that was not executed
)

// RolloutStates lists every state, in the order of a rollout's life.
func RolloutStates() []RolloutState {
	return []RolloutState{
		RolloutScheduled, RolloutWaiting, RolloutRunning, RolloutSoaking, RolloutGating, RolloutPaused,
		RolloutRollingBack, RolloutStopped, RolloutCancelled, RolloutFinished, RolloutPlanned,
	}
}

// Ended reports whether no further wave will begin.
func (s RolloutState) Ended() bool {
	switch s {
	case RolloutStopped, RolloutCancelled, RolloutFinished, RolloutPlanned:
		return true
	}
	return false
}

// Rollout is the specification of a rollout and its progress.
type Rollout struct {
	RolloutSpec
	State    RolloutState `json:"state" doc:"The state of the rollout."`
	Reason   string       `json:"reason" doc:"Why the rollout is in this state."`
	Waves    []int        `json:"waves" doc:"The sizes of the waves, the canary first."`
	Wave     int          `json:"wave" doc:"How many waves have begun."`
	Until    *time.Time   `json:"until,omitempty" doc:"When a state with a time limit ends."`
	Rollback string       `json:"rollback,omitempty" doc:"The id of the task that undoes this task."`

	// Resume is the state of a paused rollout after it is resumed.
	Resume RolloutState `json:"-"`
	// Accepted is the number of failures that a person accepted by resuming.
	Accepted int `json:"-"`
}

// Unreleased returns the number of endpoints in waves that have not begun.
func (r Rollout) Unreleased() int {
	n := 0
	for _, size := range r.Waves[min(r.Wave, len(r.Waves)):] {
		n += size
	}
	return n
}

// WavePlan is the preview of a request: the waves of the task if it was created now.
type WavePlan struct {
	Type         string       `json:"type" doc:"The task type."`
	Task         string       `json:"task,omitempty" doc:"The id of the task that the same request has already made; absent if the task would be new."`
	Rollout      *RolloutSpec `json:"rollout" doc:"The requested rollout; null if the task has no waves."`
	Waves        [][]string   `json:"waves" doc:"The endpoints of each wave; with the order random only the size of each wave is certain."`
	Broadcast    bool         `json:"broadcast" doc:"The task reaches every endpoint that serves the type until the receive deadline; the one wave lists those known now."`
	NotConnected []string     `json:"not_connected" doc:"The endpoints that are not connected, or are revoked."`
	NotServing   []string     `json:"not_serving" doc:"The endpoints that are connected but would reject the task."`
}
