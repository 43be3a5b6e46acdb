package tasker

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// MaxRolloutWait bounds the waits of a rollout.
	MaxRolloutWait = 7 * 24 * time.Hour
	// maxBatches bounds the list of a rollout's batches.
	maxBatches = 1000
)

// Validate calls fault with each field of a spec that makes no sense, and why, as the
// rest of a sentence that begins with the field. Defaults has to have filled it in.
// What may be asked by a gate is known elsewhere only.
func (s RolloutSpec) Validate(fault func(field, message string)) {
	say := func(field, format string, args ...any) { fault(field, fmt.Sprintf(format, args...)) }
	switch {
	case len(s.Batch) == 0:
		say("batch", "is an empty list; leave it out for one wave of all")
	case len(s.Batch) > maxBatches:
		say("batch", "has %d sizes; at most %d are allowed, and the last one repeats", len(s.Batch), maxBatches)
	}
	for i, b := range s.Batch {
		if b.N == 0 {
			field := "batch"
			if len(s.Batch) > 1 {
				field = fmt.Sprintf("batch[%d]", i)
			}
			say(field, "is %v, but a wave has at least one endpoint", b)
		}
	}
	if s.PauseBetween.D() > MaxRolloutWait {
		say("pause_between", "is %v; at most %v are allowed", s.PauseBetween, MaxRolloutWait)
	}
	if s.PauseAfterCanary && s.Canary.N == 0 {
		say("pause_after_canary", "is set, but there is no canary")
	}
	if g := s.Gate; g != nil {
		if (g.PromQL == "") == (g.URL == "") {
			fault("gate", "needs promql or url, one of the two")
		}
		if g.For.D() > MaxRolloutWait {
			say("gate.for", "is %v; at most %v are allowed", g.For, MaxRolloutWait)
		}
	}
	if msg := CheckOneOf(s.Order, OrderListed, OrderName, OrderRandom); msg != "" {
		fault("order", msg)
	}
	if msg := CheckOneOf(s.OnFailure, OnFailureStop, OnFailurePause, OnFailureRollback); msg != "" {
		fault("on_failure", msg)
	}
}

// CheckOneOf says that a word is none of those that are known; empty if it is one.
func CheckOneOf[T ~string](word T, known ...T) string {
	if slices.Contains(known, word) {
		return ""
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	return fmt.Sprintf("is %s; possible are %s", quote(string(word)), strings.Join(words, ", "))
}
