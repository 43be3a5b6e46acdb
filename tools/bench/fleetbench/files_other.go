//go:build !linux

package fleetbench

// raiseFileLimit does nothing on this system.
func raiseFileLimit(Options) error { return nil }
