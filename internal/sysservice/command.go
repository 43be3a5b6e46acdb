package sysservice

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Command returns the command `service install|uninstall|start|stop|restart|status`. It
// calls newUnit only when the command runs, so that its error affects no other command.
func Command(newUnit func() (*Unit, error)) *cobra.Command {
	root := &cobra.Command{
		Use: "service", Short: "Manage the systemd service of a program that no package has installed", Args: cobra.NoArgs,
		Long: `install makes this program, at its current path, a service of systemd. Use it on servers
on which no package has installed the program; a package contains the service already.

uninstall removes only the unit that install has written. Configuration and data stay.`,
	}
	for _, c := range []struct {
		use, short string
		// run returns what the service is then.
		run func(*Unit) (state string, err error)
	}{
		{"install", "Write and enable the unit; it starts at the next boot, or with `service start`", withState("installed", (*Unit).Install)},
		{"uninstall", "Stop the service and remove its unit", withState("uninstalled", (*Unit).Uninstall)},
		{"start", "Start the service", withState("started", (*Unit).Start)},
		{"stop", "Stop the service", withState("stopped", (*Unit).Stop)},
		{"restart", "Stop and start the service", withState("restarted", (*Unit).Restart)},
		{"status", "Show whether the service is running, stopped or failed", (*Unit).Status},
	} {
		root.AddCommand(&cobra.Command{
			Use: c.use, Short: c.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				u, err := newUnit()
				if err != nil {
					return err
				}
				state, err := c.run(u)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", u.name, state)
				return nil
			},
		})
	}
	return root
}

// withState returns a function that calls run and returns the state after its success.
func withState(state string, run func(*Unit) error) func(*Unit) (string, error) {
	return func(u *Unit) (string, error) { return state, run(u) }
}
