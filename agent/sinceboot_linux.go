package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

// newSinceBoot returns a clock that continues while the machine is suspended and
// that no one can set.
func newSinceBoot() func() time.Duration {
	start := time.Now()
	return func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			return time.Since(start)
		}
		return time.Duration(ts.Nano())
	}
}
