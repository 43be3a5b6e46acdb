package fleetbench

import (
	"fmt"
	"syscall"
)

// spareFiles are those that a process opens beside what each agent takes.
const spareFiles = 200

// roomForFiles sees to it that this process, and the control plane that it starts, may
// open what the run takes: for each agent its journal, and the connections that it does
// not share.
func roomForFiles(o Options) error {
	connections := o.Endpoints/o.PerConnection + 1
	if o.HTTP {
		connections = 2 * o.Endpoints
	}
	if o.Outage > 0 {
		connections *= 3 // the gate has two ends of each
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
	most := limit.Max
	limit.Max = need
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d agents take %d open files, and this process may have %d at most: raise its hard limit (as root: ulimit -n %d, or systemd-run --scope -p LimitNOFILE=%d), or measure fewer agents",
			o.Endpoints, need, most, need, need)
	}
	return nil
}
