package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/config"
)

// app is what the commands share.
type app struct {
	in       io.Reader
	out, err *os.File
	env      func(string) (string, bool)

	// closed is the data directory of a control plane on this machine, if a token was
	// to be taken from it, and this user may not read it.
	closed string
	// tokenFrom says for a person where the token is from; empty is nowhere.
	tokenFrom string

	// The flags of all commands.
	url, token, caFile, format string
}

const defaultURL = "http://127.0.0.1:8888"

func newRoot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasker",
		Short: "Hand tasks to servers and see what becomes of them",
		Long: `tasker hands a task to a named set of servers and tells, per server, what became of it.

The control plane and the token are taken from, in this order: the flags; the
environment (TASKER_URL, TASKER_TOKEN, TASKER_CA_FILE); the file
~/.config/tasker/config.yaml (url, token or token_file, ca_file), whose token is
sent to its own url only; the data directory of a control plane on this machine
(its URL, its admin.token, which is sent to this machine only, and its certificate).

` + exitCodes,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.url, "url", "", "the control plane, like "+defaultURL)
	flags.StringVar(&a.token, "token", "", "the token (other users of this machine can see it: better TASKER_TOKEN)")
	flags.StringVar(&a.caFile, "ca-file", "", "certificates, in PEM, to trust beside the system's")
	cmd.AddCommand(taskCommand(a), rolloutCommand(a), endpointsCommand(a), endpointCommand(a), enrolTokenCommand(a), demoCommand(a), versionCommand(a))
	strict(cmd)
	return cmd
}

// strict makes wrong arguments of every command usage errors.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
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

// group is a command that only has other commands below it.
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
	cmd.Flags().StringVarP(&a.format, "output", "o", "table", "table or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if a.format != "table" && a.format != "json" {
			return usage("--output %q is neither table nor json", a.format)
		}
		return nil
	}
}

func (a *app) json() bool { return a.format == "json" }

// terminal says whether a person is looking at what is printed.
func (a *app) terminal() bool { return term.IsTerminal(int(a.out.Fd())) } //nolint:gosec // a file descriptor is an int

// asking is what a command runs that asks the control plane.
func (a *app) asking(run func(c *client.Client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return run(c, cmd, args)
	}
}

// client connects to the control plane that the flags, the environment and the
// configuration name.
func (a *app) client() (*client.Client, error) {
	file := a.configFile()
	settings, err := config.LoadClient(config.Source{File: file, Env: a.env})
	if err != nil {
		return nil, err
	}
	o := client.Options{URL: a.from(a.url, "TASKER_URL"), UserAgent: "tasker/" + version}
	own := o.URL == "" || o.URL == settings.URL.Reveal()
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
	local := o.URL == here.url || isLocal(o.URL)
	if err := a.authenticate(&o, settings, own, here, local); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if ca == "" && local {
		o.TLS = here.trust
	} else if o.TLS, err = certificates(ca); err != nil {
		return nil, err
	}
	return client.New(o)
}

// authenticate chooses the token: own says whether the one of the settings may be
// sent there, and onThis whether that of a control plane on this machine may.
func (a *app) authenticate(o *client.Options, settings *config.Client, own bool, here local, onThis bool) error {
	a.tokenFrom = "TASKER_TOKEN"
	if a.token != "" {
		a.tokenFrom = "--token"
	}
	if o.Token = a.from(a.token, "TASKER_TOKEN"); o.Token == "" && own {
		secret, err := settings.Secret()
		if err != nil {
			return err
		}
		o.Token, a.tokenFrom = secret.Reveal(), a.configFile()
	}
	if o.Token == "" && onThis {
		o.Token, a.closed, a.tokenFrom = here.token, here.closed, here.tokenFile
	}
	if o.Token == "" {
		a.tokenFrom = ""
	}
	return nil
}

// from is the flag, or else the environment variable.
func (a *app) from(flag, name string) string {
	if flag != "" {
		return flag
	}
	value, _ := a.env(name)
	return value
}

// configFile is where the user's configuration is, if there is one.
func (a *app) configFile() string {
	if dir, ok := a.env("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "tasker", "config.yaml")
	}
	home, _ := a.env("HOME")
	return filepath.Join(home, ".config", "tasker", "config.yaml")
}

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
