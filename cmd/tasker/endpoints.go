package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
)

func endpointsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoints [NAME]",
		Short: "List the endpoints, or show one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if len(args) == 0 {
				list, err := c.Endpoints(cmd.Context())
				if err != nil {
					return err
				}
				return a.printEndpoints(list)
			}
			e, err := c.Endpoint(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(e)
			}
			return a.printEndpoints([]tasker.Endpoint{e})
		},
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
