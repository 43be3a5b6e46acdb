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
		use, short, done string
		act              func(*Unit) error
	}{
		{"install", "Write and enable the unit; it starts at the next boot, or with `service start`", "installed", (*Unit).Install},
		{"uninstall", "Stop the service and remove its unit", "uninstalled", (*Unit).Uninstall},
		{"start", "Start the service", "started", (*Unit).Start},
		{"stop", "Stop the service", "stopped", (*Unit).Stop},
		{"restart", "Stop and start the service", "restarted", (*Unit).Restart},
	} {
		root.AddCommand(&cobra.Command{
			Use: c.use, Short: c.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				u, err := newUnit()
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
		Use: "status", Short: "Show whether the service is running, stopped or failed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := newUnit()
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
