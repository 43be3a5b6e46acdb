package service

import (
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/allowlist"
	"github.com/MatthiasWiesner/tasker/handlers/argument"
)

// Allow is the allow-list of units. Its patterns have the syntax of path.Match; a pattern
// without a suffix gets .service.
type Allow []string

// CheckAllowed returns nil for a unit on the list, and a rejection for every other unit and
// for every text that systemd would not read as the name of one unit.
func (a Allow) CheckAllowed(unit string) error {
	unit = Complete(unit)
	if err := argument.Unit().Check(unit); err != nil {
		return err
	}
	return a.list().Check(unit)
}

func (a Allow) list() allowlist.List {
	patterns := make([]string, len(a))
	for i, p := range a {
		patterns[i] = p
		if p != "" {
			patterns[i] = Complete(p)
		}
	}
	return allowlist.List{Key: "handlers.service.allow", Patterns: patterns}
}

// Complete adds .service to the name of a unit without a suffix of systemd.
func Complete(unit string) string {
	suffixes := []string{".service", ".socket", ".timer", ".target", ".path", ".mount", ".automount", ".swap", ".slice", ".scope", ".device"}
	if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(unit, s) }) {
		return unit
	}
	return unit + ".service"
}
