package tasker

import (
	"fmt"
	"slices"
	"time"
)

const (
	// MaxRolloutWait is the longest pause_between and gate.for of a rollout.
	MaxRolloutWait = 7 * 24 * time.Hour
	// maxBatches is the highest number of batch sizes.
	maxBatches = 1000
)

// RolloutSpec describes how a task is divided into waves.
type RolloutSpec struct {
	Canary Amount  `json:"canary" doc:"The size of the first wave, the canary; 0 is no canary."`
	Batch  Amounts `json:"batch" doc:"The sizes of the waves after the canary, in order; the last size applies to all further waves."`
	// MaxFailures is the failure budget; see Counts.Failures.
	MaxFailures      Amount       `json:"max_failures" doc:"How many endpoints of the task may fail. An endpoint counts as failed if its response has ended with any status other than succeeded or skipped. One failure more triggers on_failure."`
	PauseBetween     Duration     `json:"pause_between" doc:"The time between the end of a wave and the next step."`
	PauseAfterCanary bool         `json:"pause_after_canary" doc:"Pause after the canary until the rollout is resumed."`
	Order            RolloutOrder `json:"order" doc:"listed: the named endpoints first, then those found by labels, by name; name; or random."`
	Gate             *Gate        `json:"gate,omitempty" doc:"The condition that must hold between two waves; otherwise the rollout pauses."`
	OnFailure        OnFailure    `json:"on_failure" doc:"stop: running endpoints finish, the others are skipped; pause: a person decides; rollback: stop, then undo the task where it was started, which is refused with 422 if the handler cannot undo this payload."`
	Exclusive        bool         `json:"exclusive" doc:"No other rollout runs on these endpoints at the same time; the later rollout waits."`
}

// RolloutOrder is the order of a rollout's endpoints.
type RolloutOrder string

// The orders of a rollout.
const (
	OrderListed RolloutOrder = "listed" // named endpoints as in the request, then endpoints found by labels, by name
	OrderName   RolloutOrder = "name"
	OrderRandom RolloutOrder = "random" // shuffled once, when the task is stored
)

// OnFailure is what a rollout does after its failure budget is exceeded.
type OnFailure string

// The values of OnFailure.
const (
	OnFailureStop     OnFailure = "stop"     // running endpoints finish, the others are skipped
	OnFailurePause    OnFailure = "pause"    // running endpoints finish, a person decides
	OnFailureRollback OnFailure = "rollback" // stop, then undo the task where it was started
)

// Gate is a condition that must hold between two waves. Either PromQL or URL is set.
type Gate struct {
	PromQL string `json:"promql,omitempty" doc:"A query to Prometheus. The gate holds if the result has a sample that is neither zero nor NaN. $endpoints is replaced by a regular expression that matches the endpoints so far."`
	// URL is requested with GET.
	URL string   `json:"url,omitempty" doc:"The gate holds if this URL answers 2xx. It must be https, or http on the control plane's own machine, unless gates.allow in the configuration permits others."`
	For Duration `json:"for" doc:"How long the condition must hold."`
}

// WaveSizes returns the sizes of the waves for a total number of endpoints: the canary,
// then the batches, of which the last repeats. Percentages refer to the total and are
// rounded down. Each wave has at least one endpoint.
func (s RolloutSpec) WaveSizes(total int) []int {
	var sizes []int
	left := total
	appendWave := func(a Amount) {
		n := min(max(a.Of(total), 1), left)
		sizes, left = append(sizes, n), left-n
	}
	if s.Canary.N > 0 && left > 0 {
		appendWave(s.Canary)
	}
	for i := 0; left > 0; i++ {
		if len(s.Batch) == 0 {
			appendWave(Amount{N: left})
			continue
		}
		appendWave(s.Batch[min(i, len(s.Batch)-1)])
	}
	return sizes
}

// SetDefaults sets the fields that the request left out. The default is one wave with
// all endpoints, in the order listed, that stops at the first failure.
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

// Arrange sorts endpoints into the order of their waves. The argument must be in the
// order listed: named endpoints first, then endpoints found by labels, by name.
func (o RolloutOrder) Arrange(endpoints []string, shuffle func(n int, swap func(i, j int))) {
	switch o {
	case OrderName:
		slices.Sort(endpoints)
	case OrderRandom:
		shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
	}
}

// Validate calls report for each invalid field. The message continues a sentence that
// begins with the name of the field. SetDefaults must be called before. Validate does
// not check whether the gate's URL is permitted.
func (s RolloutSpec) Validate(report func(field, message string)) {
	reportf := func(field, format string, args ...any) { report(field, fmt.Sprintf(format, args...)) }
	switch {
	case len(s.Batch) == 0:
		reportf("batch", "is an empty list; leave it out for one wave of all endpoints")
	case len(s.Batch) > maxBatches:
		reportf("batch", "has %d sizes; at most %d are allowed, and the last one repeats", len(s.Batch), maxBatches)
	}
	for i, b := range s.Batch {
		if b.N == 0 {
			field := "batch"
			if len(s.Batch) > 1 {
				field = fmt.Sprintf("batch[%d]", i)
			}
			reportf(field, "is %v, but a wave has at least one endpoint", b)
		}
	}
	if s.PauseBetween.D() > MaxRolloutWait {
		reportf("pause_between", "is %v; at most %v are allowed", s.PauseBetween, MaxRolloutWait)
	}
	if s.PauseAfterCanary && s.Canary.N == 0 {
		reportf("pause_after_canary", "is set, but there is no canary")
	}
	if g := s.Gate; g != nil {
		if (g.PromQL == "") == (g.URL == "") {
			report("gate", "needs promql or url, one of the two")
		}
		if g.For.D() > MaxRolloutWait {
			reportf("gate.for", "is %v; at most %v are allowed", g.For, MaxRolloutWait)
		}
	}
	if msg := CheckOneOf(s.Order, OrderListed, OrderName, OrderRandom); msg != "" {
		report("order", msg)
	}
	if msg := CheckOneOf(s.OnFailure, OnFailureStop, OnFailurePause, OnFailureRollback); msg != "" {
		report("on_failure", msg)
	}
}
