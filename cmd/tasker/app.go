package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/commandline"
)

// app holds what all commands share.
type app struct {
	printer
	in io.Reader

	// unreadable is the data directory of a control plane on this machine that would
	// have provided the token, but that this user may not read.
	unreadable string
	// tokenFrom is the source of the token, for messages; empty if there is no token.
	tokenFrom string

	// The flags of all commands.
	url, token, caFile string
	allowPlainText     bool
}

const defaultURL = "http://127.0.0.1:8888"

func newRoot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasker",
		Short: "Send tasks to servers and see their outcome",
		Long: `tasker hands a task to a set of servers and reports the outcome of every server.

tasker reads the URL of the control plane and the token from these sources, in this order:
  1. the flags
  2. the environment: TASKER_URL, TASKER_TOKEN, TASKER_CA_FILE
  3. the file ~/.config/tasker/config.yaml: url, token or token_file, ca_file,
     allow_plain_text; its token is sent to its url only
  4. the data directory of a control plane on this machine: its URL, admin.token and
     certificate; the token is sent to this machine only

` + exitCodes,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.url, "url", "", "the URL of the control plane, like "+defaultURL)
	flags.StringVar(&a.token, "token", "", "the token (other users of this machine can see it; prefer TASKER_TOKEN)")
	flags.StringVar(&a.caFile, "ca-file", "", "a file of certificates in PEM to trust in addition to the system's")
	flags.BoolVar(&a.allowPlainText, "allow-plain-text", false, "send the token by HTTP, not HTTPS, to another machine (or allow_plain_text: true in the file)")
	cmd.AddCommand(taskCommand(a), rolloutCommand(a), endpointsCommand(a), endpointCommand(a), enrolTokenCommand(a), demoCommand(a), versionCommand(a))
	strict(cmd)
	commandline.RejectEmptyFlags(cmd)
	return cmd
}

// strict turns the wrong arguments of every command into usage errors.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				err = commandline.CheckArgs(args)
			}
			switch {
			case err == nil:
				return nil
			case !cmd.HasSubCommands():
				return usage("%w: %s", err, cmd.UseLine())
			}
			cmd.SuggestionsMinimumDistance = 2
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usage("%w; did you mean %s?", err, strings.Join(near, " or "))
			}
			return usage("%w", err)
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// group returns a command that only contains other commands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// formatFlag adds -o to a command that prints data.
func (a *app) formatFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.format, "output", "o", "table", "the format: table or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if a.format != "table" && a.format != "json" {
			return usage("--output %q is neither table nor json", a.format)
		}
		return nil
	}
}

// withClient returns the RunE of a command that calls the control plane.
func (a *app) withClient(run func(c *client.Client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return run(c, cmd, args)
	}
}

// client returns a client of the control plane that the flags, the environment or the
// configuration file name.
func (a *app) client() (*client.Client, error) {
	file := a.configFile()
	settings, err := config.LoadClient(config.Source{File: file, Env: a.env})
	if err != nil {
		return nil, err
	}
	o := client.Options{URL: a.from(a.url, "TASKER_URL"), UserAgent: "tasker/" + version}
	settingsURL := o.URL == "" || o.URL == settings.URL.Reveal()
	if o.URL == "" {
		o.URL = settings.URL.Reveal()
	}
	here := findLocal(dataDirs())
	if o.URL == "" {
		o.URL = here.url
	}
	ca := a.from(a.caFile, "TASKER_CA_FILE")
	if ca == "" {
		ca = settings.CAFile
	}
	isOnThisMachine := o.URL == here.url || isLocal(o.URL)
	if err := a.chooseToken(&o, settings, settingsURL, here, isOnThisMachine); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := a.checkPlainText(o, isOnThisMachine || a.allowPlainText || bool(settings.AllowPlainText)); err != nil {
		return nil, err
	}
	if ca == "" && isOnThisMachine {
		o.TLS = here.trust
	} else if o.TLS, err = certificates(ca); err != nil {
		return nil, err
	}
	return client.New(o)
}

// checkPlainText returns an error if the token would be sent without encryption, unless that
// is allowed.
func (a *app) checkPlainText(o client.Options, allowed bool) error {
	u, err := url.Parse(o.URL)
	if err != nil || !strings.EqualFold(u.Scheme, "http") || o.Token == "" || allowed {
		return nil // client.New reports an invalid URL
	}
	return usage("%s is not encrypted and would expose the token from %s to the network; use https, or, if you trust the network between, --allow-plain-text or the line allow_plain_text: true in %s",
		u.Redacted(), a.tokenFrom, a.configFile())
}

// chooseToken sets the token. useSettings permits the token of the settings, and useLocal
// that of a control plane on this machine.
func (a *app) chooseToken(o *client.Options, settings *config.Client, useSettings bool, here local, useLocal bool) error {
	a.tokenFrom = "TASKER_TOKEN"
	if a.token != "" {
		a.tokenFrom = "--token"
	}
	if o.Token = a.from(a.token, "TASKER_TOKEN"); o.Token == "" && useSettings {
		secret, err := settings.Secret()
		if err != nil {
			return err
		}
		o.Token, a.tokenFrom = secret.Reveal(), a.configFile()
	}
	if o.Token == "" && useLocal {
		if here.exposed != nil {
			return here.exposed
		}
		o.Token, a.unreadable, a.tokenFrom = here.token, here.unreadable, here.tokenFile
	}
	if o.Token == "" {
		a.tokenFrom = ""
	}
	return nil
}

// from returns the flag, or the environment variable if the flag is empty.
func (a *app) from(flag, name string) string {
	if flag != "" {
		return flag
	}
	value, _ := a.env(name)
	return value
}

// configFile returns the path of the user's configuration, which may be missing.
func (a *app) configFile() string {
	if dir, ok := a.env("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "tasker", "config.yaml")
	}
	home, _ := a.env("HOME")
	return filepath.Join(home, ".config", "tasker", "config.yaml")
}

// certificates returns the configuration that trusts the certificates in a file and the
// system's; nil if no file is given.
func certificates(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	if pool == nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// hint returns advice for a request that was refused because of its token; empty is none.
func (a *app) hint(err error) string {
	var refused *client.Problem
	if !errors.As(err, &refused) {
		return ""
	}
	switch unauthorized := refused.Status == http.StatusUnauthorized; {
	case a.unreadable != "" && (unauthorized || refused.Status == http.StatusBadRequest):
		return fmt.Sprintf("this user may not read %s, which holds the URL and the token of a control plane on this machine: run tasker as root, or set TASKER_URL and TASKER_TOKEN", a.unreadable)
	case unauthorized && a.tokenFrom != "":
		return "the token is from " + a.tokenFrom
	case unauthorized:
		return "no token was sent: set TASKER_TOKEN; tasker --help lists the other sources of the token"
	}
	return ""
}
