package fleetbench

import "syscall"

// child has the control plane end with this process, and keeps Ctrl-C from it:
// this process stops it in order.
func child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
