package fleetbench

import (
	"fmt"
	"syscall"
)

// spareFiles is the number of files that a process opens besides those of the agents.
const spareFiles = 200

// raiseFileLimit raises the limit of open files of this process and its children to what
// the run needs: for each agent its journal and its own connections.
func raiseFileLimit(o Options) error {
	connections := o.Endpoints/o.PerConnection + 1
	if o.HTTP {
		connections = 2 * o.Endpoints
	}
	if o.Outage > 0 {
		connections *= 3 // the proxy has two ends of each
	}
	need := uint64(o.Endpoints + connections + spareFiles) //nolint:gosec // some thousands
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read how many files may be open: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	limit.Cur = need
	if limit.Max >= need {
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	hardLimit := limit.Max
	limit.Max = need
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d agents need %d open files, and this process may open at most %d: raise its hard limit (as root: ulimit -n %d, or systemd-run --scope -p LimitNOFILE=%d), or measure fewer agents",
			o.Endpoints, need, hardLimit, need, need)
	}
	return nil
}
