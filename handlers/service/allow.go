package service

import (
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/allowlist"
)

// Allow are patterns of path.Match of the units that may be touched; .service is
// added where one has no suffix.
type Allow []string

// Allowed returns a rejection of a unit that may not be touched, and nil for others.
func (a Allow) Allowed(unit string) error { return a.names().Check(Complete(unit)) }

func (a Allow) names() allowlist.List {
	patterns := make([]string, len(a))
	for i, p := range a {
		patterns[i] = p
		if p != "" {
			patterns[i] = Complete(p)
		}
	}
	return allowlist.List{Key: "handlers.service.allow", Patterns: patterns}
}

// Complete adds .service to a unit's name that has no suffix of systemd's.
func Complete(unit string) string {
	suffixes := []string{".service", ".socket", ".timer", ".target", ".path", ".mount", ".automount", ".swap", ".slice", ".scope", ".device"}
	if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(unit, s) }) {
		return unit
	}
	return unit + ".service"
}
