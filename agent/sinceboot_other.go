//go:build !linux

package agent

import "time"

// newSinceBoot returns the monotonic clock, on systems without a boot-time clock.
func newSinceBoot() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
