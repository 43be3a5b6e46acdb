//go:build !linux

package fleetbench

import "syscall"

// child keeps Ctrl-C from the control plane: this process stops it in order.
func child() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
