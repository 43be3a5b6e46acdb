package service

import (
	"context"
	"time"
)

// Stop stops a unit and returns when it is inactive.
func (m *Manager) Stop(ctx context.Context, unit string) error { return m.run(ctx, stop, unit) }

// Journal returns the last lines of a unit's journal since then; where it cannot be
// read, it says why in their place.
func (m *Manager) Journal(ctx context.Context, unit string, since time.Time) []string {
	return journal(ctx, unit, since)
}
