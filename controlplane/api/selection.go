package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// selection is the choice of endpoints in a request. A request names endpoints, selects
// them by labels, or both. Without names and labels it is for every endpoint that serves
// the type. Then it is a broadcast, unless it has a rollout: the waves of a rollout are
// formed from the endpoints that are known when the task is stored.
type selection struct {
	taskType string
	named    []string
	labels   tasker.Selector
	rollout  bool
}

// isUnrestricted reports whether the request has neither names nor labels.
func (s selection) isUnrestricted() bool { return s.named == nil && s.labels == nil }

// isBroadcast reports whether the task is for every endpoint that serves the type, also
// for endpoints that are not known yet.
func (s selection) isBroadcast() bool { return s.isUnrestricted() && !s.rollout }

// needsEndpoints reports whether known endpoints must be matched.
func (s selection) needsEndpoints() bool { return s.labels != nil || s.isUnrestricted() && s.rollout }

// matches reports whether the labels select an endpoint or, in an unrestricted request,
// whether the endpoint serves the type. A revoked endpoint never matches.
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
		return newFieldProblem(http.StatusUnprocessableEntity, "the task has no endpoint", location,
			"selects no endpoint that is known; GET /endpoints lists the endpoints with their labels")
	case len(endpoints) > maxEndpoints:
		return newFieldProblem(http.StatusUnprocessableEntity, "the task has too many endpoints", location,
			fmt.Sprintf("selects %d endpoints; at most %d are allowed", len(endpoints), maxEndpoints))
	}
	return nil
}
