// Package allowlist decides which names a handler may touch. A list comes from the agent's
// configuration and is empty by default, which permits nothing.
package allowlist

import (
	"fmt"
	"path"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// List permits names of one kind, like packages.
type List struct {
	// Key is the configuration key of the list, like handlers.package.allow.
	Key string
	// Patterns have the syntax of path.Match.
	Patterns []string
}

// Validate returns an error that names the first malformed pattern.
func (l List) Validate() error {
	for i, p := range l.Patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("%s[%d]: %q is neither a name nor a pattern like \"app-*\"", l.Key, i, p)
		}
	}
	return nil
}

// Check returns nil for a name that matches a pattern, and a *handlers.RejectError for
// every other name. An alias of the name, like a package without its architecture, may
// match instead.
func (l List) Check(name string, aliases ...string) error {
	for _, p := range l.Patterns {
		for _, n := range append([]string{name}, aliases...) {
			if ok, err := path.Match(p, n); ok && err == nil {
				return nil
			}
		}
	}
	return handlers.Reject("the agent may not touch %s: add %[1]q, or a pattern that it matches, to %s in the agent's configuration", name, l.Key)
}
