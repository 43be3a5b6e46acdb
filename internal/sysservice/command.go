package sysservice

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Command is `service install|uninstall|start|stop|restart|status` for the unit
// that unit makes. It is made at the call, so that a failure to make it is the
// call's and not the program's.
func Command(unit func() (*Unit, error)) *cobra.Command {
	root := &cobra.Command{
		Use: "service", Short: "Be a service of systemd, where no package has made it one", Args: cobra.NoArgs,
		Long: `service installs this program, where it lies now, as a service of systemd. It is for
servers on which no package is installed: with one, the service is there already.

uninstall removes only what install has made; configuration and data stay.`,
	}
	for _, c := range []struct {
		use, short, done string
		act              func(*Unit) error
	}{
		{"install", "Write the unit and enable it; it starts with the next boot, or by `service start`", "installed", (*Unit).Install},
		{"uninstall", "Stop the service and remove its unit", "uninstalled", (*Unit).Uninstall},
		{"start", "Start the service", "started", (*Unit).Start},
		{"stop", "Stop the service", "stopped", (*Unit).Stop},
		{"restart", "Stop and start the service", "restarted", (*Unit).Restart},
	} {
		root.AddCommand(&cobra.Command{
			Use: c.use, Short: c.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				u, err := unit()
				if err != nil {
					return err
				}
				if err := c.act(u); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", u.name, c.done)
				return nil
			},
		})
	}
	root.AddCommand(&cobra.Command{
		Use: "status", Short: "Say whether the service is running, stopped or failed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := unit()
			if err != nil {
				return err
			}
			status, err := u.Status()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", u.name, status)
			return nil
		},
	})
	return root
}
