package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane/callback"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
)

func callbackSecretCommand(src *config.Source) *cobra.Command {
	return &cobra.Command{
		Use:   "callback-secret",
		Short: "Print the secret that signs callbacks",
		Long: `callback-secret prints the secret with which receivers of callbacks verify the
signatures of the control plane, in the form of Standard Webhooks
(https://www.standardwebhooks.com). Keep it secret: with it anybody can forge
callbacks.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(src)
			if err != nil {
				return err
			}
			key, err := callbackKey(cmd.Context(), c)
			if err != nil {
				return daemon.Failed(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), key.Reveal())
			return nil
		},
	}
}

func callbackKey(ctx context.Context, c *config.ControlPlane) (key callback.Key, err error) {
	s, err := store.Open(ctx, store.Options{URI: c.Database.URI.Reveal(), DataDir: c.DataDir, Types: c.Types()})
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Check(ctx); err != nil {
		return key, err
	}
	return callback.LoadKey(ctx, s)
}
