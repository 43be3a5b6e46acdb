package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/demo"
)

// maxDemoEndpoints bounds the demo's agents. Each one is a process.
const maxDemoEndpoints = 50

func demoCommand(a *app) *cobra.Command {
	o := demo.Options{Out: a.out, Version: version, Watch: a.watch, PrintJSON: a.printJSON}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a control plane, some agents and a task on this machine (on Linux)",
		Long: `Start a control plane with its defaults (SQLite, agents over HTTP, loopback only) and
the agents loadbalancer-1, loadbalancer-2 … as separate processes. Send them a task,
show its progress, print commands to try next, and run until Ctrl-C. All files are in a
temporary directory, which is removed at the end.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Endpoints < 1 || o.Endpoints > maxDemoEndpoints {
				return usage("--endpoints: %d is not from 1 to %d", o.Endpoints, maxDemoEndpoints)
			}
			err := demo.Run(cmd.Context(), o)
			var ended *demo.ProcessError
			switch {
			case errors.Is(err, demo.ErrInterrupted):
				return &exitError{code: codeInterrupted}
			case errors.As(err, &ended):
				return &exitError{code: codeUnreachable, err: ended}
			}
			return err
		},
	}
	cmd.Flags().IntVar(&o.Endpoints, "endpoints", 2, "the number of agents to start")
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "stop after the task, with the exit code of its outcome")
	cmd.Flags().StringVar(&o.Database, "database", "", "store tasks in mysql://USER:PASSWORD@HOST:PORT/DATABASE; the database is created if it is missing, and kept")
	cmd.Flags().StringVar(&o.MessageQueue, "message-queue", "", "connect the agents over amqp://USER:PASSWORD@HOST:PORT/VHOST; user and vhost are created by guest if they are missing, and kept")
	return cmd
}
