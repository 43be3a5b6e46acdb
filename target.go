package tasker

import "slices"

// RequestFields are the fields of a request for a task.
func RequestFields() []string {
	return []string{"identifier", "payload", "endpoints", "labels", "receive_timeout", "timeout", "rollout", "not_before", "dry_run", "callback"}
}

// Target is whom a request asks to perform a task: those it names, those its labels
// select, or, if it does neither, whoever serves the type. The last is a broadcast
// unless the task is a rollout, which needs to know its endpoints before it begins.
type Target struct {
	Type      string
	Endpoints []string
	Labels    Selector
	Rollout   bool
}

// anybody: neither names nor labels are given.
func (t Target) anybody() bool { return t.Endpoints == nil && t.Labels == nil }

// Broadcast says whether the order goes to everybody, instead of to endpoints that
// are known when the task is stored.
func (t Target) Broadcast() bool { return t.anybody() && !t.Rollout }

// Selective says whether the task is for those known endpoints that Selects says.
func (t Target) Selective() bool { return t.Labels != nil || t.anybody() && t.Rollout }

// Selects says whether an endpoint is asked without being named. One that is revoked
// never is.
func (t Target) Selects(e Endpoint) bool {
	switch {
	case e.RevokedAt != nil:
		return false
	case t.Labels != nil:
		return t.Labels.Matches(e.Labels)
	default:
		return t.anybody() && slices.Contains(e.Types, t.Type)
	}
}

// Join returns the named endpoints and after them those of the selected ones that
// are not named.
func (t Target) Join(selected []string) []string {
	named := make(map[string]bool, len(t.Endpoints))
	for _, name := range t.Endpoints {
		named[name] = true
	}
	all := slices.Clone(t.Endpoints)
	for _, name := range selected {
		if !named[name] {
			all = append(all, name)
		}
	}
	return all
}
