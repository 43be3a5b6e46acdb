package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane/callback"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
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
	err = withSigningOptions(ctx, c, func(o signing.Options) error {
		keys, err := signing.Open(ctx, o)
		if err == nil {
			key = callback.NewKey(keys.CallbackSecret())
		}
		return err
	})
	return key, err
}
