package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func enrolTokenCommand(a *app) *cobra.Command {
	return group("enrol-token", "Create, list and revoke the tokens with which servers enrol",
		createTokenCommand(a), listTokensCommand(a), revokeTokenCommand(a))
}

func createTokenCommand(a *app) *cobra.Command {
	var ttl string
	var uses int
	var labels []string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token, and print the command to run on the servers",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, _ []string) error {
			set, remove, err := parseLabels(labels)
			if err == nil && len(remove) > 0 {
				err = usage("--label %s- removes a label, which a token cannot do: write NAME=VALUE", remove[0])
			}
			if err != nil {
				return err
			}
			t, err := c.CreateEnrolToken(cmd.Context(), ttl, uses, set)
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(t)
			}
			_, err = fmt.Fprintf(a.out, "tasker-agent enrol --server %s --token %s\n", reachable(c.URL()), t.Token)
			if isLocal(c.URL()) {
				fmt.Fprintln(a.err, "If the servers reach this machine under another name or address, replace the URL after --server.")
			}
			fmt.Fprintf(a.err, "Valid for %s until %s.\n", describe.Plural(t.MaxUses, "server"), t.ExpiresAt.Local().Format(time.DateTime))
			return written(err)
		}),
	}
	a.formatFlag(cmd)
	cmd.Flags().StringVar(&ttl, "ttl", "1h", "how long the token is valid, 1m to 720h")
	cmd.Flags().IntVar(&uses, "max-uses", 1, "the number of servers that can enrol with it")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "a label of the servers that enrol with it, like role=web; can be repeated")
	return cmd
}

// reachable returns the URL for use on servers: it replaces a loopback address by the
// name of this machine.
func reachable(address string) string {
	u, err := url.Parse(address)
	if err != nil || !isLocal(address) {
		return address
	}
	if name, err := os.Hostname(); err == nil {
		u.Host = net.JoinHostPort(name, u.Port())
	}
	return u.String()
}

func listTokensCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, newest first",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, _ []string) error {
			list, err := c.EnrolTokens(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(map[string]any{"tokens": list})
			}
			t := table.New("ID", "USES", "EXPIRES", "BY", "LABELS", "STATE")
			for _, e := range list {
				t.AppendRow([]any{
					e.ID, fmt.Sprintf("%d of %d", e.Uses, e.MaxUses), e.ExpiresAt.Local().Format(time.DateTime), terminal.OneLine(e.CreatedBy), terminal.OneLine(describe.LabelList(e.Labels)), stateOf(e, time.Now()),
				})
			}
			return a.printTable(t)
		}),
	}
	a.formatFlag(cmd)
	return cmd
}

func stateOf(t tasker.EnrolToken, now time.Time) string {
	switch {
	case t.RevokedAt != nil:
		return "revoked"
	case t.Uses >= t.MaxUses:
		return "used up"
	case now.After(t.ExpiresAt):
		return "expired"
	}
	return "valid"
}

func revokeTokenCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a token; servers that have enrolled with it stay enrolled",
		Args:  cobra.ExactArgs(1),
		RunE: a.withClient(func(c *client.Client, cmd *cobra.Command, args []string) error {
			return c.RevokeEnrolToken(cmd.Context(), args[0])
		}),
	}
}
