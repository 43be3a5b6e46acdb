package agent

import (
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// facts are all that a decision about an assignment depends on.
type facts struct {
	// phase is the assignment's phase in the journal; "" if its order has just arrived.
	phase   journal.Phase
	attempt int
	// latest is the highest attempt of the task that was accepted, tombstone the
	// highest that was cancelled; zero is none.
	latest, tombstone int
	// recorded means that the journal has the assignment already.
	recorded bool
	// timeKnown means that the control plane's time is known, late that it is past the
	// deadline.
	timeKnown, late bool
	// refusal returns why the agent cannot perform the assignment; "" if it can.
	refusal func() string

	// The following facts are about assignments that an earlier agent process has started:
	// the handler's restart contract, whether its work continues without the agent, and
	// why its processes could not be killed.
	restart  handlers.Restart
	detached bool
	killErr  error
}

// action is what the agent does with an assignment.
type action int

const (
	// actionDrop: acknowledge and forget it, without a report.
	actionDrop action = iota
	// actionRepeat: report its state once more.
	actionRepeat
	// actionHold: record it, and decide again when the control plane's time is known.
	actionHold
	// actionRun: put it into its run queue, or leave it there. The handler starts from the beginning.
	actionRun
	// actionResume: put it into its run queue. The handler continues its earlier work.
	actionResume
	// actionReattach: like actionResume, for work that continued without the agent.
	actionReattach
	// actionEnd: record status and reason as its final report.
	actionEnd
)

// decision is the next step of an assignment.
type decision struct {
	action action
	// outcome is counted in the metric assignments_total; "" is not counted.
	outcome string
	// status and reason are the final report for actionEnd. For actionHold, reason is
	// the refusal to report later.
	status tasker.ResponseStatus
	reason string
}

// decide returns the next step of an assignment.
func decide(f facts) decision {
	switch f.phase {
	case journal.Held: // and now the control plane's time is known
		if f.late {
			return decision{action: actionDrop, outcome: outcomeExpired}
		}
		return decision{action: actionRun, outcome: outcomeAccepted}
	case journal.Accepted:
		return decideAccepted(f)
	case journal.Starting:
		return decideLeftover(f)
	default:
		return decideReceived(f)
	}
}

func decideReceived(f facts) decision {
	switch {
	case f.recorded:
		return decision{action: actionRepeat, outcome: outcomeDuplicate}
	case f.latest > f.attempt:
		return decision{action: actionDrop, outcome: outcomeStale}
	case !f.timeKnown:
		// If the deadline has passed, the assignment is forgotten. So nothing is
		// reported until then, not even a refusal.
		return decision{action: actionHold, reason: f.refusal()}
	case f.late:
		return decision{action: actionDrop, outcome: outcomeExpired}
	case f.tombstone >= f.attempt:
		return decision{actionEnd, outcomeCancelled, tasker.Cancelled, reasonNotReceived}
	}
	if reason := f.refusal(); reason != "" {
		return decision{actionEnd, outcomeRejected, tasker.Rejected, reason}
	}
	return decision{action: actionRun, outcome: outcomeAccepted}
}

// decideAccepted decides about an assignment in its run queue before the agent starts
// handlers. The agent could not end it before, because it was not running or did not know
// the control plane's time.
func decideAccepted(f facts) decision {
	switch {
	case f.tombstone >= f.attempt:
		return decision{action: actionEnd, status: tasker.Cancelled, reason: reasonNotStarted}
	case f.latest > f.attempt:
		return decision{action: actionEnd, status: tasker.Cancelled, reason: replacedBy(f.latest)}
	}
	if reason := f.refusal(); reason != "" {
		return decision{action: actionEnd, status: tasker.Rejected, reason: reason}
	}
	return decision{action: actionRun}
}

// decideLeftover decides about an assignment that an earlier agent process has started.
func decideLeftover(f facts) decision {
	switch {
	case f.killErr != nil:
		return decision{
			action: actionEnd, status: tasker.Interrupted,
			reason: "agent was restarted, and cannot kill the processes it had started: " + limit(f.killErr.Error(), maxMessage),
		}
	case f.detached:
		return decision{action: actionReattach}
	case f.tombstone >= f.attempt, f.latest > f.attempt:
		return decision{action: actionEnd, status: tasker.Cancelled, reason: reasonWhileRunning}
	case f.restart == handlers.RestartRetry:
		return decision{action: actionRun}
	case f.restart == handlers.RestartResume:
		return decision{action: actionResume}
	}
	return decision{action: actionEnd, status: tasker.Interrupted, reason: "agent was restarted"}
}

// The reasons of a cancelled assignment.
const (
	reasonNotReceived  = "cancelled before it was received"
	reasonNotStarted   = "cancelled before it was started"
	reasonWhileRunning = "cancelled while it was running"
)

func replacedBy(attempt int) string { return fmt.Sprintf("replaced by attempt %d", attempt) }

func notStarted() outcome { return outcome{status: tasker.Cancelled, reason: reasonNotStarted} }
