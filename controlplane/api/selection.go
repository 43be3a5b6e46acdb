package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// selection determines the endpoints of a request: those it names and those its labels
// select or, without both, all that serve the type. The last is a broadcast, unless the
// task has a rollout, which must know its endpoints before it begins.
type selection struct {
	taskType string
	named    []string
	labels   tasker.Selector
	rollout  bool
}

// isUnrestricted reports whether the request has neither names nor labels.
func (s selection) isUnrestricted() bool { return s.named == nil && s.labels == nil }

// isBroadcast reports whether the order goes to every endpoint, instead of to the
// endpoints that are known when the task is stored.
func (s selection) isBroadcast() bool { return s.isUnrestricted() && !s.rollout }

// needsEndpoints reports whether known endpoints must be matched.
func (s selection) needsEndpoints() bool { return s.labels != nil || s.isUnrestricted() && s.rollout }

// matches reports whether an endpoint is selected without being named. A revoked
// endpoint never is.
func (s selection) matches(e tasker.Endpoint) bool {
	switch {
	case e.RevokedAt != nil:
		return false
	case s.labels != nil:
		return s.labels.Matches(e.Labels)
	default:
		return s.isUnrestricted() && slices.Contains(e.Types, s.taskType)
	}
}

// withMatched returns the named endpoints, followed by the matched ones that are not
// named.
func (s selection) withMatched(matched []string) []string {
	named := make(map[string]bool, len(s.named))
	for _, name := range s.named {
		named[name] = true
	}
	all := slices.Clone(s.named)
	for _, name := range matched {
		if !named[name] {
			all = append(all, name)
		}
	}
	return all
}

// checkSize rejects a selection of no endpoints, or of too many.
func (s selection) checkSize(endpoints []string) error {
	location := "body.labels"
	if s.labels == nil {
		location = "body.endpoints"
	}
	switch {
	case endpoints == nil:
		return fieldProblem(http.StatusUnprocessableEntity, "the task has no endpoint", location,
			"selects no endpoint that is known; GET /endpoints lists the endpoints with their labels")
	case len(endpoints) > maxEndpoints:
		return fieldProblem(http.StatusUnprocessableEntity, "the task has too many endpoints", location,
			fmt.Sprintf("selects %d endpoints; at most %d are allowed", len(endpoints), maxEndpoints))
	}
	return nil
}
