package api

import (
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// selection is whom a request asks to perform a task: those it names, those its labels
// select, or, if it does neither, whoever serves the type. The last is a broadcast
// unless the task is a rollout, which needs to know its endpoints before it begins.
type selection struct {
	taskType string
	named    []string
	labels   tasker.Selector
	rollout  bool
}

// anybody: neither names nor labels are given.
func (s selection) anybody() bool { return s.named == nil && s.labels == nil }

// broadcast says whether the order goes to everybody, instead of to endpoints that
// are known when the task is stored.
func (s selection) broadcast() bool { return s.anybody() && !s.rollout }

// selective says whether the task is for those known endpoints that selects says.
func (s selection) selective() bool { return s.labels != nil || s.anybody() && s.rollout }

// selects says whether an endpoint is asked without being named. One that is revoked
// never is.
func (s selection) selects(e tasker.Endpoint) bool {
	switch {
	case e.RevokedAt != nil:
		return false
	case s.labels != nil:
		return s.labels.Matches(e.Labels)
	default:
		return s.anybody() && slices.Contains(e.Types, s.taskType)
	}
}

// join returns the named endpoints and after them those of the selected ones that
// are not named.
func (s selection) join(selected []string) []string {
	named := make(map[string]bool, len(s.named))
	for _, name := range s.named {
		named[name] = true
	}
	all := slices.Clone(s.named)
	for _, name := range selected {
		if !named[name] {
			all = append(all, name)
		}
	}
	return all
}
