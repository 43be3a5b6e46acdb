// Package agentcmd is tasker-agent as a function, so that a program of your own
// can be an agent with further handlers compiled in:
//
//	func main() { os.Exit(agentcmd.Main("1.0", myhandler.New())) }
package agentcmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
)

// Main is the whole program: it runs the command line and returns the exit code.
// Extra handlers are added to the built-in ones; their names must differ. It is
// to be called at the top of main, since the program also is the supervisor of
// the processes that it starts.
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
		Long: `tasker-agent subscribes under its endpoint's name and performs the tasks that the
control plane assigns to it.

Exit codes: 0 stopped in order, 1 failed, 2 wrong command line or configuration.`,
		Version: version,
		Args:    cobra.NoArgs,
	}
	src := daemon.AddSource(root, "config/agent", packagedConfig)
	root.AddCommand(
		&cobra.Command{
			Use: "run", Short: "Run the agent until it is told to stop", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				s, err := load(*src)
				if err != nil {
					return err
				}
				log := daemon.NewLogger(s.config.Log, os.Stderr)
				log.Info("configuration read", "file", s.file, "server", s.config.Server.URI.String())
				return daemon.Failed(run(cmd.Context(), s, version, log, extra))
			},
		},
		&cobra.Command{
			Use: "check-config", Short: "Say what is wrong with the configuration, without starting", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				s, err := load(*src)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), s.says())
				return nil
			},
		},
		enrolCommand(src),
		serviceCommand(src),
		daemon.VersionCommand(version),
	)
	return root
}
