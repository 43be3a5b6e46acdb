// Package allowlist says which names a handler may touch: those that match one of the
// patterns of the agent's configuration, which has none by default.
package allowlist

import (
	"fmt"
	"path"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Names are names of one kind.
type Names struct {
	// Key is that of the configuration, like handlers.package.allow.
	Key string
	// Patterns are those of path.Match.
	Patterns []string
}

// Check returns an error that names the pattern that is none.
func (n Names) Check() error {
	for i, p := range n.Patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("%s[%d]: %q is neither a name nor a pattern like \"app-*\"", n.Key, i, p)
		}
	}
	return nil
}

// Refuse returns a rejection of a name that matches no pattern, and nil for others.
func (n Names) Refuse(name string) error {
	for _, p := range n.Patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return nil
		}
	}
	return handlers.Reject("the agent may not touch %s: add %[1]q, or a pattern that it matches, to %s in the agent's configuration", name, n.Key)
}
