package fleetbench

import "syscall"

// childAttributes makes the kernel end the control plane with this process, and keeps
// Ctrl-C from it: this process stops it in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
