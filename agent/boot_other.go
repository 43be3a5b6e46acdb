//go:build !linux

package agent

import "time"

// sinceBoot is the monotonic clock, where there is no better one.
func sinceBoot() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
