package decision

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

const (
	// gateInterval is how often a gate is checked that must hold for a time.
	gateInterval = 5 * time.Second
	// blockerInterval is how often a waiting rollout checks whether it is still blocked.
	blockerInterval = time.Second
)

// Next decides the next step of a rollout from its stored state, and from the result of
// its gate or a person's request. The error says why it refuses a request.
//
//	scheduled ─► waiting ─► running ─► soaking ─► gating ─┐
//	                           ▲                          │ next wave
//	                           └──────────────────────────┘ or a late report
//	any of these ─► paused ─► back to the state before
//	            └─► stopped | rolling_back ─► stopped | cancelled | finished
//	any state but rolling_back ─► retry: waiting, or scheduled before its start
//
// A wave begins only when every response of earlier waves has ended and the failure budget
// is not exceeded.
func Next(in Input) (Step, error) {
	switch in.Request {
	case Pause:
		return pause(in)
	case Resume:
		return resume(in)
	case Retry:
		return retry(in)
	case Cancel:
		in.Task.CancelRequestedAt, in.Task.CancelRequestedBy = &in.Now, in.By
	}
	if step, ok := endEarly(in); ok {
		return step, nil
	}
	return advance(in), nil
}

// endEarly decides the step after too many failures, a cancel or the end of all
// responses. ok is false if the rollout goes on.
func endEarly(in Input) (step Step, ok bool) {
	r, ended, cancelled := in.Task.Rollout, unended(in) == 0, in.Task.CancelRequestedAt != nil
	if isBudgetExceeded(in) && !cancelled {
		if step, ok := onBudgetExceeded(in); ok {
			return step, true
		}
	}
	switch {
	case ended && r.State == tasker.RolloutRollingBack && r.Rollback == "" && !cancelled:
		return Step{State: tasker.RolloutStopped, Reason: r.Reason, Rollback: true}, true
	case ended && cancelled:
		return Step{State: tasker.RolloutCancelled, Reason: cancelReason(in)}, true
	case ended && r.State != tasker.RolloutStopped:
		return Step{State: tasker.RolloutFinished}, true
	case cancelled && r.State == tasker.RolloutPaused: // the cancel ends the pause
		return Step{State: tasker.RolloutRunning}, true
	}
	return stay(in), ended || cancelled
}

// advance decides how a rollout goes on in its state.
func advance(in Input) Step {
	r, step := in.Task.Rollout, stay(in)
	switch r.State {
	case tasker.RolloutScheduled:
		if at := in.Task.NotBefore; isBefore(in, at) {
			step.Until, step.Again = at, at
			return step
		}
		return Step{State: tasker.RolloutWaiting}
	case tasker.RolloutWaiting:
		if in.Blocker != "" {
			step.Reason, step.Again = in.Blocker, after(in.Now, blockerInterval)
			return step
		}
		return releaseWave()
	case tasker.RolloutRunning:
		if isWaveEnded(in) {
			return waveEnded(in)
		}
	case tasker.RolloutSoaking, tasker.RolloutGating:
		switch {
		case !isWaveEnded(in): // a response that had been ended as lost was reported on
			return Step{State: tasker.RolloutRunning}
		case r.State == tasker.RolloutGating:
			return gateChecked(in)
		case !isBefore(in, r.Until):
			return Step{State: tasker.RolloutGating}
		}
		step.Again = r.Until
	}
	return step // until a request, a report or a deadline
}

// cancelReason names the person that cancelled a rollout, and states if changes remain.
func cancelReason(in Input) string {
	reason := "cancelled by " + in.Task.CancelRequestedBy
	if in.Task.Rollout.State == tasker.RolloutRollingBack {
		reason += " before it was rolled back; what was changed stays: undo undoes it"
	}
	return reason
}

// unended counts the responses that have not ended.
func unended(in Input) int { return in.Task.Counts.Total() - in.Task.Counts.Ended() }

// isBudgetExceeded reports whether more endpoints failed than the failure budget allows
// or a person has accepted.
func isBudgetExceeded(in Input) bool {
	r, counts := in.Task.Rollout, in.Task.Counts
	return counts.Failures() > max(r.MaxFailures.Of(counts.Total()), r.Accepted)
}

// onBudgetExceeded decides the step after too many failures. ok is false if that step was
// done before, or if no wave is left to pause.
func onBudgetExceeded(in Input) (step Step, ok bool) {
	r, counts := in.Task.Rollout, in.Task.Counts
	reason := fmt.Sprintf("%d of %d failed (%s); at most %d may", counts.Failures(), counts.Total(), failedNames(in), max(r.MaxFailures.Of(counts.Total()), r.Accepted))
	switch {
	case r.State == tasker.RolloutRollingBack, r.State == tasker.RolloutStopped:
	case r.OnFailure == tasker.OnFailureRollback:
		return Step{State: tasker.RolloutRollingBack, Reason: reason, Skip: true}, true
	case r.OnFailure != tasker.OnFailurePause:
		return Step{State: tasker.RolloutStopped, Reason: reason, Skip: true}, true
	case r.State != tasker.RolloutPaused && r.Unreleased() > 0:
		return Step{State: tasker.RolloutPaused, Resume: r.State, Until: r.Until, Reason: reason}, true
	}
	return step, false
}

// failedNames lists some of the failed endpoints.
func failedNames(in Input) string {
	list := strings.Join(in.Failed, ", ")
	if more := in.Task.Counts.Failures() - len(in.Failed); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// isWaveEnded reports whether every response of the waves so far has ended.
func isWaveEnded(in Input) bool { return unended(in) <= in.Task.Rollout.Unreleased() }

// waveEnded decides the step after a wave: a pause, a soak or the gate.
func waveEnded(in Input) Step {
	r := in.Task.Rollout
	switch {
	case r.PauseAfterCanary && r.Canary.N > 0 && r.Wave == 1:
		return Step{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating,
			Reason: "paused after the canary, as requested; resume it to continue",
		}
	case r.PauseBetween > 0:
		until := after(in.Now, r.PauseBetween.D())
		return Step{State: tasker.RolloutSoaking, Until: until, Again: until}
	}
	return Step{State: tasker.RolloutGating}
}

// gateChecked decides the step after a check of the gate. Until is when the gate will have
// held for long enough.
func gateChecked(in Input) Step {
	r, step := in.Task.Rollout, stay(in)
	switch {
	case r.Gate == nil:
		return releaseWave()
	case in.Gate == nil: // a check is running
		step.Again = after(in.Now, gateInterval)
		return step
	case !in.Gate.Passes:
		return Step{
			State: tasker.RolloutPaused, Resume: tasker.RolloutGating, Reason: "the gate does not hold: " + in.Gate.Reason,
		}
	case r.Until == nil:
		step.Until = after(in.Now, r.Gate.For.D())
	}
	if !isBefore(in, step.Until) {
		return releaseWave()
	}
	step.Again = after(in.Now, min(gateInterval, step.Until.Sub(in.Now)))
	return step
}

func releaseWave() Step { return Step{State: tasker.RolloutRunning, Release: true} }

// isBefore reports whether at is still to come; nil is not.
func isBefore(in Input, at *time.Time) bool { return at != nil && in.Now.Before(*at) }

func after(t time.Time, d time.Duration) *time.Time {
	t = t.Add(d)
	return &t
}
