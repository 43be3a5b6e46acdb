package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

const (
	// gateEvery is how often a gate is asked that has to hold for a time.
	gateEvery = 5 * time.Second
	// waitEvery is how often a rollout looks whether those it waits for are over.
	waitEvery = time.Second
)

// Verdict is what a gate has said.
type Verdict struct {
	Holds bool
	// Why says for a person why it does not hold.
	Why string
}

// next decides what becomes of a rollout. It is a pure function of what is stored
// and of the last word of its gate, which is nil until it was asked since the
// wave ended.
//
//	scheduled ─► waiting ─► running ─► soaking ─► gating ─┐
//	                           ▲                          │ next wave
//	                           └──────────────────────────┘ or this one lasts after all
//	any of these ─► paused ─► back to where it was
//	            └─► stopped | rolling_back ─► stopped | cancelled | finished
//
// A wave begins only when every response of the waves before it has ended and no
// more have failed than may.
func next(v store.RolloutView, gate *Verdict) store.RolloutStep {
	r, counts := v.Task.Rollout, v.Task.Counts
	stay := store.RolloutStep{State: r.State, Resume: r.Resume, Reason: r.Reason, Until: r.Until}
	cancelled := v.Task.CancelRequestedAt != nil
	ended := counts.Ended() == counts.Total()

	if over(v) && !cancelled {
		if step, acts := fail(v); acts {
			return step
		}
	}
	switch {
	case ended && r.State == tasker.RolloutRollingBack && r.Rollback == "" && !cancelled:
		return store.RolloutStep{State: tasker.RolloutStopped, Reason: r.Reason, Rollback: true}
	case ended && cancelled:
		return store.RolloutStep{State: tasker.RolloutCancelled, Reason: cancelReason(v)}
	case ended && r.State != tasker.RolloutStopped:
		return store.RolloutStep{State: tasker.RolloutFinished}
	case cancelled && r.State == tasker.RolloutPaused: // nothing waits for a person any more
		return store.RolloutStep{State: tasker.RolloutRunning}
	case ended, cancelled:
		return stay
	case (r.State == tasker.RolloutSoaking || r.State == tasker.RolloutGating) && open(v) > r.Unreleased():
		// One that was given up has reported after all, and is at it: the wave lasts.
		return store.RolloutStep{State: tasker.RolloutRunning}
	}

	switch r.State {
	case tasker.RolloutScheduled:
		if at := v.Task.NotBefore; at != nil && v.Now.Before(*at) {
			stay.Until, stay.Again = at, at
			return stay
		}
		return store.RolloutStep{State: tasker.RolloutWaiting}
	case tasker.RolloutWaiting:
		if v.Blocker != "" {
			stay.Reason, stay.Again = v.Blocker, after(v.Now, waitEvery)
			return stay
		}
		return release()
	case tasker.RolloutRunning:
		return waveEnded(v, stay)
	case tasker.RolloutSoaking:
		if r.Until != nil && v.Now.Before(*r.Until) {
			stay.Again = r.Until
			return stay
		}
		return store.RolloutStep{State: tasker.RolloutGating}
	case tasker.RolloutGating:
		return pass(v, gate, stay)
	}
	return stay // what comes next comes from outside
}

// cancelReason says who has cancelled a rollout, and what that leaves as it is.
func cancelReason(v store.RolloutView) string {
	reason := "cancelled by " + v.Task.CancelRequestedBy
	if v.Task.Rollout.State == tasker.RolloutRollingBack {
		reason += " before it was rolled back; what was changed stays: undo undoes it"
	}
	return reason
}

// open is how many have not ended.
func open(v store.RolloutView) int { return v.Task.Counts.Total() - v.Task.Counts.Ended() }

// over says whether more have failed than may, or than a person has accepted.
func over(v store.RolloutView) bool {
	r, counts := v.Task.Rollout, v.Task.Counts
	return counts.Failures() > max(r.MaxFailures.Of(counts.Total()), r.Accepted)
}

// fail is what happens when too many have failed; acts is false where it has
// happened already, or where nothing is left that it could keep from starting.
func fail(v store.RolloutView) (step store.RolloutStep, acts bool) {
	r, counts := v.Task.Rollout, v.Task.Counts
	reason := fmt.Sprintf("%d of %d failed (%s); at most %d may", counts.Failures(), counts.Total(), names(v), max(r.MaxFailures.Of(counts.Total()), r.Accepted))
	switch {
	case r.State == tasker.RolloutRollingBack, r.State == tasker.RolloutStopped:
	case r.OnFailure == tasker.OnFailureRollback:
		return store.RolloutStep{State: tasker.RolloutRollingBack, Reason: reason, Skip: true}, true
	case r.OnFailure != tasker.OnFailurePause:
		return store.RolloutStep{State: tasker.RolloutStopped, Reason: reason, Skip: true}, true
	case r.State != tasker.RolloutPaused && r.Unreleased() > 0:
		return store.RolloutStep{State: tasker.RolloutPaused, Resume: r.State, Until: r.Until, Reason: reason}, true
	}
	return step, false
}

// names says who has failed.
func names(v store.RolloutView) string {
	list := strings.Join(v.Failed, ", ")
	if more := v.Task.Counts.Failures() - len(v.Failed); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// waveEnded leads from a wave to what comes before the next one.
func waveEnded(v store.RolloutView, stay store.RolloutStep) store.RolloutStep {
	r := v.Task.Rollout
	switch {
	case open(v) > r.Unreleased():
		return stay
	case r.PauseAfterCanary && r.Canary.N > 0 && r.Wave == 1:
		return store.RolloutStep{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating,
			Reason: "paused after the canary, as asked for; resume it to go on",
		}
	case r.PauseBetween > 0:
		until := after(v.Now, r.PauseBetween.D())
		return store.RolloutStep{State: tasker.RolloutSoaking, Until: until, Again: until}
	}
	return store.RolloutStep{State: tasker.RolloutGating}
}

// pass leads through the gate. Until is when it will have held for long enough.
func pass(v store.RolloutView, gate *Verdict, stay store.RolloutStep) store.RolloutStep {
	r := v.Task.Rollout
	switch {
	case r.Gate == nil:
		return release()
	case gate == nil: // it is being asked
		stay.Again = after(v.Now, gateEvery)
		return stay
	case !gate.Holds:
		return store.RolloutStep{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating, Reason: "the gate does not hold: " + gate.Why,
		}
	case r.Until == nil:
		stay.Until = after(v.Now, r.Gate.For.D())
	}
	if !v.Now.Before(*stay.Until) {
		return release()
	}
	stay.Again = after(v.Now, min(gateEvery, stay.Until.Sub(v.Now)))
	return stay
}

func release() store.RolloutStep {
	return store.RolloutStep{State: tasker.RolloutRunning, Release: true}
}

func after(t time.Time, d time.Duration) *time.Time {
	t = t.Add(d)
	return &t
}
