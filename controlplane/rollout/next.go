package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

const (
	// gateInterval is how often a gate is checked that must hold for a time.
	gateInterval = 5 * time.Second
	// blockerInterval is how often a waiting rollout checks whether it is still blocked.
	blockerInterval = time.Second
)

// GateResult is the outcome of a check of a gate.
type GateResult struct {
	Passes bool
	// Reason explains to people why the gate does not pass.
	Reason string
}

// next decides the next step of a rollout. It is a pure function of the stored state and
// of the result of its gate, which is nil until the gate was checked after the wave.
//
//	scheduled ─► waiting ─► running ─► soaking ─► gating ─┐
//	                           ▲                          │ next wave
//	                           └──────────────────────────┘ or a late report
//	any of these ─► paused ─► back to the state before
//	            └─► stopped | rolling_back ─► stopped | cancelled | finished
//
// A wave begins only when every response of earlier waves has ended and the failure budget
// is not exceeded.
func next(v store.RolloutView, gate *GateResult) store.RolloutStep {
	r, counts := v.Task.Rollout, v.Task.Counts
	stay := store.RolloutStep{State: r.State, Resume: r.Resume, Reason: r.Reason, Until: r.Until}
	cancelled := v.Task.CancelRequestedAt != nil
	ended := counts.Ended() == counts.Total()

	if isBudgetExceeded(v) && !cancelled {
		if step, ok := onBudgetExceeded(v); ok {
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
	case cancelled && r.State == tasker.RolloutPaused: // the cancel ends the pause
		return store.RolloutStep{State: tasker.RolloutRunning}
	case ended, cancelled:
		return stay
	case (r.State == tasker.RolloutSoaking || r.State == tasker.RolloutGating) && unended(v) > r.Unreleased():
		// A response that had been ended as lost was reported on: the wave continues.
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
			stay.Reason, stay.Again = v.Blocker, after(v.Now, blockerInterval)
			return stay
		}
		return releaseWave()
	case tasker.RolloutRunning:
		return waveEnded(v, stay)
	case tasker.RolloutSoaking:
		if r.Until != nil && v.Now.Before(*r.Until) {
			stay.Again = r.Until
			return stay
		}
		return store.RolloutStep{State: tasker.RolloutGating}
	case tasker.RolloutGating:
		return gateChecked(v, gate, stay)
	}
	return stay // until a request, a report or a deadline
}

// cancelReason names the person that cancelled a rollout, and says if changes remain.
func cancelReason(v store.RolloutView) string {
	reason := "cancelled by " + v.Task.CancelRequestedBy
	if v.Task.Rollout.State == tasker.RolloutRollingBack {
		reason += " before it was rolled back; what was changed stays: undo undoes it"
	}
	return reason
}

// unended counts the responses that have not ended.
func unended(v store.RolloutView) int { return v.Task.Counts.Total() - v.Task.Counts.Ended() }

// isBudgetExceeded reports whether more endpoints failed than the failure budget allows
// or a person has accepted.
func isBudgetExceeded(v store.RolloutView) bool {
	r, counts := v.Task.Rollout, v.Task.Counts
	return counts.Failures() > max(r.MaxFailures.Of(counts.Total()), r.Accepted)
}

// onBudgetExceeded decides the step after too many failures. ok is false if that step was
// done before, or if no wave is left to pause.
func onBudgetExceeded(v store.RolloutView) (step store.RolloutStep, ok bool) {
	r, counts := v.Task.Rollout, v.Task.Counts
	reason := fmt.Sprintf("%d of %d failed (%s); at most %d may", counts.Failures(), counts.Total(), failedNames(v), max(r.MaxFailures.Of(counts.Total()), r.Accepted))
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

// failedNames lists some of the failed endpoints.
func failedNames(v store.RolloutView) string {
	list := strings.Join(v.Failed, ", ")
	if more := v.Task.Counts.Failures() - len(v.Failed); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// waveEnded decides the step after a wave: a pause, a soak or the gate.
func waveEnded(v store.RolloutView, stay store.RolloutStep) store.RolloutStep {
	r := v.Task.Rollout
	switch {
	case unended(v) > r.Unreleased():
		return stay
	case r.PauseAfterCanary && r.Canary.N > 0 && r.Wave == 1:
		return store.RolloutStep{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating,
			Reason: "paused after the canary, as requested; resume it to continue",
		}
	case r.PauseBetween > 0:
		until := after(v.Now, r.PauseBetween.D())
		return store.RolloutStep{State: tasker.RolloutSoaking, Until: until, Again: until}
	}
	return store.RolloutStep{State: tasker.RolloutGating}
}

// gateChecked decides the step after a check of the gate. Until is when the gate will have
// held for long enough.
func gateChecked(v store.RolloutView, gate *GateResult, stay store.RolloutStep) store.RolloutStep {
	r := v.Task.Rollout
	switch {
	case r.Gate == nil:
		return releaseWave()
	case gate == nil: // a check is running
		stay.Again = after(v.Now, gateInterval)
		return stay
	case !gate.Passes:
		return store.RolloutStep{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating, Reason: "the gate does not hold: " + gate.Reason,
		}
	case r.Until == nil:
		stay.Until = after(v.Now, r.Gate.For.D())
	}
	if !v.Now.Before(*stay.Until) {
		return releaseWave()
	}
	stay.Again = after(v.Now, min(gateInterval, stay.Until.Sub(v.Now)))
	return stay
}

func releaseWave() store.RolloutStep {
	return store.RolloutStep{State: tasker.RolloutRunning, Release: true}
}

func after(t time.Time, d time.Duration) *time.Time {
	t = t.Add(d)
	return &t
}
