//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func benchCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use: "bench", Short: "Measure a control plane under a fleet of agents (on Linux)", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("bench needs Linux, where agents run") },
	}
}
