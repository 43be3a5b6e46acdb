package store

import (
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// statusIn returns the condition that a response has one of the statuses that match.
func statusIn(match func(tasker.ResponseStatus) bool) string {
	list := slices.DeleteFunc(tasker.ResponseStatuses(), func(s tasker.ResponseStatus) bool { return !match(s) })
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "status IN (" + strings.Join(quoted, ",") + ")"
}

// quote returns the status as a literal.
func quote(s tasker.ResponseStatus) string { return "'" + string(s) + "'" }

// isUnended reports whether a response with this status can still change.
func isUnended(s tasker.ResponseStatus) bool { return !s.Ended() }

// isWithAgent reports whether an agent has received the assignment and not ended it.
func isWithAgent(s tasker.ResponseStatus) bool {
	return s.Rank() >= tasker.Received.Rank() && !s.Ended()
}

// isFailure reports whether tasker.Counts.Failures counts the status.
func isFailure(s tasker.ResponseStatus) bool {
	return s.Ended() && s != tasker.Succeeded && s != tasker.Skipped
}
