package describe

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// EndpointFacts returns an endpoint as one line per fact.
func EndpointFacts(e tasker.Endpoint) string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return Time(*t)
	}
	var b strings.Builder
	for _, f := range [][2]string{
		{"endpoint", e.Name},
		{"connected", Connection(e)},
		{"last seen", Time(e.LastSeen)},
		{"first seen", Time(e.FirstSeen)},
		{"enrolled", at(e.EnrolledAt)},
		{"revoked", at(e.RevokedAt)},
		{"problem", e.Problem},
		{"version", e.Version},
		{"running", Plural(e.Running, "task")},
		{"waiting", Plural(e.Waiting, "task")},
		{"types", strings.Join(e.Types, " ")},
		{"labels", LabelList(e.Labels)},
		{"only claimed", MereClaims(e)},
		{"metrics", e.Metrics},
	} {
		b.WriteString(Fact(f[0], f[1]))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Connection returns whether an endpoint is connected: yes, no or revoked, and whether
// another server has requested its name.
func Connection(e tasker.Endpoint) string {
	switch {
	case e.RevokedAt != nil:
		return "revoked"
	case e.Connected && e.Duplicate:
		return "yes, duplicate"
	case e.Connected:
		return "yes"
	}
	return "no"
}

// LabelList returns labels, sorted.
func LabelList(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, " ")
}

// MereClaims returns the labels that the agent claims and that selectors do not match,
// sorted.
func MereClaims(e tasker.Endpoint) string {
	claims := maps.Clone(e.ClaimedLabels)
	maps.DeleteFunc(claims, func(name, value string) bool {
		label, has := e.Labels[name]
		return has && label == value
	})
	return LabelList(claims)
}
