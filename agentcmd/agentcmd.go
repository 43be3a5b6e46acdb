// Package agentcmd is the program tasker-agent as a function. A program of your own calls
// [Main] to be an agent with further handlers:
//
//	func main() { os.Exit(agentcmd.Main("1.0", myhandler.New())) }
//
// The program takes the same command line and configuration as tasker-agent. Build it with
// CGO_ENABLED=0 and install it in place of tasker-agent. To use a handler, also add its
// name to handlers and to task_types in the configuration of the control plane.
package agentcmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
)

// Main runs the command line of the process and returns its exit code. The extra handlers
// are added to the built-in ones; every name must be unique. Main must be called first in
// main, because the program also serves as the supervisor of the processes it starts.
func Main(version string, extra ...handlers.Handler) int {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		return process.Supervise(os.Args[2:])
	}
	return daemon.Main(newRoot(version, extra))
}

func newRoot(version string, extra []handlers.Handler) *cobra.Command {
	root := &cobra.Command{
		Use:   "tasker-agent",
		Short: "Perform tasks on this server",
		Long: `tasker-agent connects to the control plane under the name of its endpoint, and
performs the tasks that the control plane assigns to it.

Exit codes: 0 stopped normally, 1 failed, 2 invalid command line or configuration.`,
		Version: version,
		Args:    cobra.NoArgs,
	}
	src := daemon.AddSource(root, "config/agent", packagedConfig)
	root.AddCommand(
		&cobra.Command{
			Use: "run", Short: "Run the agent until it receives SIGINT or SIGTERM", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				hangups := daemon.CatchHangups(cmd.Context())
				s, err := load(*src)
				if err != nil {
					return err
				}
				log, level := daemon.NewLeveledLogger(s.config.Log, os.Stderr)
				defer hangups.Handle(func() { s.reloadLogLevel(log, level) })()
				log.Info("configuration read", "file", s.file, "server", s.config.Server.URI.String())
				return daemon.Failed(run(cmd.Context(), s, version, log, extra))
			},
		},
		&cobra.Command{
			Use: "check-config", Short: "Report errors in the configuration, without starting", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				s, err := load(*src)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), s.summary())
				return nil
			},
		},
		enrolCommand(src),
		serviceCommand(src),
		daemon.VersionCommand(version),
	)
	return root
}
