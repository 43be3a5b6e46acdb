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
		{"version", e.Version},
		{"running", Plural(e.Running, "task")},
		{"waiting", Plural(e.Waiting, "task")},
		{"types", strings.Join(e.Types, " ")},
		{"labels", Labels(e)},
		{"metrics", e.Metrics},
	} {
		b.WriteString(Fact(f[0], f[1]))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Connection returns whether an endpoint is connected: yes, no or revoked.
func Connection(e tasker.Endpoint) string {
	switch {
	case e.RevokedAt != nil:
		return "revoked"
	case e.Connected:
		return "yes"
	}
	return "no"
}

// Labels returns the labels of an endpoint, sorted.
func Labels(e tasker.Endpoint) string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		labels = append(labels, name+"="+e.Labels[name])
	}
	return strings.Join(labels, " ")
}
