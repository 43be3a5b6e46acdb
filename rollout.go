package tasker

import (
	"slices"
	"time"
)

// RolloutSpec says how a task is performed in waves.
type RolloutSpec struct {
	// Canary is the size of a first wave before the batches; zero is none.
	Canary Amount `json:"canary" doc:"The size of the first wave, the canary; 0 is no canary."`
	// Batch are the sizes of the waves after it, in their order; the last one holds
	// for all further ones.
	Batch Amounts `json:"batch" doc:"The sizes of the waves after the canary, in order; the last size applies to all further waves."`
	// MaxFailures is how many endpoints of all that the task expects may fail (see
	// Counts.Failures): with one more the rollout does what OnFailure says.
	MaxFailures Amount `json:"max_failures" doc:"How many endpoints of the task may fail. An endpoint counts as failed if its response has ended with any status other than succeeded or skipped. One failure more triggers on_failure."`
	// PauseBetween is the time from the end of a wave to what comes next.
	PauseBetween Duration `json:"pause_between" doc:"The time between the end of a wave and the next step."`
	// PauseAfterCanary pauses the rollout when the canary has ended.
	PauseAfterCanary bool `json:"pause_after_canary" doc:"Pause after the canary until the rollout is resumed."`
	// Order is in which order the endpoints come.
	Order RolloutOrder `json:"order" doc:"listed: the named endpoints first, then those found by labels, by name; name; or random."`
	// Gate must hold between two waves; nil is none.
	Gate      *Gate     `json:"gate,omitempty" doc:"The condition that must hold between two waves; otherwise the rollout pauses."`
	OnFailure OnFailure `json:"on_failure" doc:"stop: running endpoints finish, the others are skipped; pause: a person decides; rollback: stop, then undo the task where it was started, which is refused with 422 if the handler cannot undo this payload."`
	// Exclusive: no other rollout is performed on one of its endpoints meanwhile.
	Exclusive bool `json:"exclusive" doc:"No other rollout runs on these endpoints at the same time; the later rollout waits."`
}

// RolloutOrder is the order of a rollout's endpoints.
type RolloutOrder string

// The orders.
const (
	OrderListed RolloutOrder = "listed" // as the request names them, then those found by labels, by name
	OrderName   RolloutOrder = "name"
	OrderRandom RolloutOrder = "random" // drawn once, when the task is stored
)

// OnFailure is what a rollout does when more endpoints have failed than may.
type OnFailure string

// The choices.
const (
	OnFailureStop     OnFailure = "stop"     // what runs may finish, the rest is skipped
	OnFailurePause    OnFailure = "pause"    // what runs may finish, a person decides
	OnFailureRollback OnFailure = "rollback" // stop, then undo where something was changed
)

// Gate is a condition that must hold between two waves; one of PromQL and URL is
// set.
type Gate struct {
	// PromQL is asked of the configured Prometheus. It holds when it yields anything
	// but nothing, zero or NaN. $endpoints in it stands for a regular expression of the
	// endpoints of the waves so far.
	PromQL string `json:"promql,omitempty" doc:"A query to Prometheus. The gate holds if the result has a sample that is neither zero nor NaN. $endpoints is replaced by a regular expression that matches the endpoints so far."`
	// URL holds when it answers 2xx.
	URL string `json:"url,omitempty" doc:"The gate holds if this URL answers 2xx. It must be https, or http on the control plane's own machine, unless gates.allow in the configuration permits others."`
	// For is how long it must hold.
	For Duration `json:"for" doc:"How long the condition must hold."`
}

// RolloutState is where a rollout stands.
type RolloutState string

// The states.
const (
	RolloutScheduled   RolloutState = "scheduled"    // its time has not come
	RolloutWaiting     RolloutState = "waiting"      // another rollout has one of its endpoints
	RolloutRunning     RolloutState = "running"      // a wave is being performed
	RolloutSoaking     RolloutState = "soaking"      // between two waves, until a time
	RolloutGating      RolloutState = "gating"       // between two waves, the gate is asked
	RolloutPaused      RolloutState = "paused"       // until a person resumes it
	RolloutRollingBack RolloutState = "rolling_back" // stopped; what runs finishes, then it is undone
	RolloutStopped     RolloutState = "stopped"      // over, by failures
	RolloutCancelled   RolloutState = "cancelled"    // over, by a cancel
	RolloutFinished    RolloutState = "finished"     // over, every wave was performed
	RolloutPlanned     RolloutState = "planned"      // of a dry run: nothing is performed
)

// RolloutStates lists every state, in the order of a rollout's life.
func RolloutStates() []RolloutState {
	return []RolloutState{
		RolloutScheduled, RolloutWaiting, RolloutRunning, RolloutSoaking, RolloutGating, RolloutPaused,
		RolloutRollingBack, RolloutStopped, RolloutCancelled, RolloutFinished, RolloutPlanned,
	}
}

// Ended says whether no further wave begins.
func (s RolloutState) Ended() bool {
	switch s {
	case RolloutStopped, RolloutCancelled, RolloutFinished, RolloutPlanned:
		return true
	}
	return false
}

// Rollout is what was asked for and where it stands.
type Rollout struct {
	RolloutSpec
	State RolloutState `json:"state" doc:"The state of the rollout."`
	// Reason says for a person why it stands there.
	Reason string `json:"reason" doc:"Why the rollout is in this state."`
	// Waves are the sizes of the waves, the canary first; Wave is how many of them
	// have begun.
	Waves []int `json:"waves" doc:"The sizes of the waves, the canary first."`
	Wave  int   `json:"wave" doc:"How many waves have begun."`
	// Until is when a state that goes by time ends.
	Until *time.Time `json:"until,omitempty" doc:"When a state with a time limit ends."`
	// Rollback is the id of the task that undoes this one.
	Rollback string `json:"rollback,omitempty" doc:"The id of the task that undoes this task."`

	// Resume is the state that a paused rollout goes on in.
	Resume RolloutState `json:"-"`
	// Accepted is the number of failures that a person has accepted by resuming.
	Accepted int `json:"-"`
}

// Unreleased is how many endpoints are in waves that have not begun.
func (r Rollout) Unreleased() int {
	n := 0
	for _, size := range r.Waves[min(r.Wave, len(r.Waves)):] {
		n += size
	}
	return n
}

// WaveSizes cuts a number of endpoints into waves: the canary, then the batches, the
// last of which repeats. Percentages are of the whole number, rounded down; no
// wave has less than one endpoint.
func (s RolloutSpec) WaveSizes(total int) []int {
	var sizes []int
	left := total
	wave := func(a Amount) {
		n := min(max(a.Of(total), 1), left)
		sizes, left = append(sizes, n), left-n
	}
	if s.Canary.N > 0 && left > 0 {
		wave(s.Canary)
	}
	for i := 0; left > 0; i++ {
		if len(s.Batch) == 0 {
			wave(Amount{N: left})
			continue
		}
		wave(s.Batch[min(i, len(s.Batch)-1)])
	}
	return sizes
}

// Failures is how many responses have failed, by the rule that rollouts stop by:
// every one that has ended and neither succeeded nor was skipped, whether it is
// failed, timed out, rejected, interrupted, missing or cancelled.
func (c Counts) Failures() int { return c.Ended() - c[Succeeded] - c[Skipped] }

// Control is what a person asked of a task.
type Control struct {
	// Action is cancel, pause, resume, retry or undo.
	Action string    `json:"action" doc:"cancel, pause, resume, retry or undo."`
	At     time.Time `json:"at" doc:"When the action was requested."`
	By     string    `json:"by" doc:"Who requested the action."`
}

// SetDefaults fills in what was left out: one wave of all, in the order listed, which
// the first failure stops.
func (s *RolloutSpec) SetDefaults() {
	if s.Batch == nil {
		s.Batch = Amounts{{N: 100, Percent: true}}
	}
	if s.Order == "" {
		s.Order = OrderListed
	}
	if s.OnFailure == "" {
		s.OnFailure = OnFailureStop
	}
}

// Arrange puts endpoints into the order of their waves. They come as listed: those
// that were named, then those found by labels, by name.
func (o RolloutOrder) Arrange(endpoints []string, shuffle func(n int, swap func(i, j int))) {
	switch o {
	case OrderName:
		slices.Sort(endpoints)
	case OrderRandom:
		shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
	}
}
