//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func demoCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "Run a control plane, some agents and a task (on Linux)", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("the demo needs Linux, where agents run") },
	}
}
