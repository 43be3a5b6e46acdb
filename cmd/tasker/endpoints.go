package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/client"
)

func endpointsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoints [NAME]",
		Short: "List the endpoints, or show one",
		Long: `List the endpoints, or show one. On a terminal the list has the columns that fit: first
the connection, then running and waiting assignments, labels, versions, types, and the
labels that an agent only claims; zeros are left out. Otherwise every line is complete.`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				list, err := c.Endpoints(cmd.Context())
				if err != nil {
					return err
				}
				return a.printEndpoints(list)
			}
			e, err := c.Endpoint(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printEndpoint(e)
		}),
	}
	a.formatFlag(cmd)
	return cmd
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "tasker %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return written(err)
		},
	}
}
