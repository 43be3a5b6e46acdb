//go:build !linux

package fleetbench

import "syscall"

// childAttributes keeps Ctrl-C from the control plane: this process stops it in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
