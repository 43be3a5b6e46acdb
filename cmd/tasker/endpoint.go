package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func endpointCommand(a *app) *cobra.Command {
	get := endpointsCommand(a)
	get.Use, get.Short, get.Args = "get NAME", "Show an endpoint", cobra.ExactArgs(1)
	return group("endpoint", "Show, label or revoke an endpoint", get, labelEndpointCommand(a), revokeEndpointCommand(a))
}

func labelEndpointCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "label NAME LABEL...",
		Short: "Add, replace and remove labels of an endpoint",
		Long: `Add, replace and remove labels of an endpoint: NAME=VALUE adds or replaces a label, NAME-
removes it. --labels of "tasker task create" selects endpoints by their labels. The labels
in the configuration of an enrolled agent are its own claim and do not count.`,
		Example: "  tasker endpoint label loadbalancer-1 role=web zone-",
		Args:    cobra.MinimumNArgs(2),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			set, remove, err := parseLabels(args[1:])
			if err != nil {
				return err
			}
			e, err := c.LabelEndpoint(cmd.Context(), args[0], set, remove)
			if err != nil {
				return err
			}
			return a.printEndpoint(e)
		}),
	}
	a.formatFlag(cmd)
	return cmd
}

// parseLabels parses NAME=VALUE and NAME-.
func parseLabels(args []string) (set map[string]string, remove []string, err error) {
	set = map[string]string{}
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		if found {
			if err := tasker.ValidateLabel(name, value); err != nil {
				return nil, nil, usage("%q: %w", arg, err)
			}
			set[name] = value
			continue
		}
		if name, found = strings.CutSuffix(arg, "-"); !found || name == "" {
			return nil, nil, usage("%q is neither NAME=VALUE nor NAME-", arg)
		}
		remove = append(remove, name)
	}
	for _, name := range remove {
		if _, both := set[name]; both {
			return nil, nil, usage("label %q is both set and removed", name)
		}
	}
	return set, remove, nil
}

func revokeEndpointCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke an endpoint at once",
		Long: `Revoke the secret of an endpoint at once. Its running tasks become interrupted, and tasks
that it has not received become missing. Its name can be enrolled again only with a token
that is created after this. Tokens that the server may know stay valid for other names:
revoke them with "tasker enrol-token revoke".`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			e, err := c.RevokeEndpoint(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(e)
			}
			_, err = fmt.Fprintf(a.out, "%s is revoked\n", terminal.OneLine(e.Name))
			return written(err)
		}),
	}
	a.formatFlag(cmd)
	return cmd
}
