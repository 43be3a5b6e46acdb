package agentcmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

const (
	// packagedConfig is the configuration that packages install and the unit reads.
	packagedConfig = "/etc/tasker-agent/config.yaml"
	tokenVariable  = "TASKER_ENROL_TOKEN"
)

// enrolFlags are those of the command enrol.
type enrolFlags struct {
	server, token, tokenFile, endpoint, caFile string
	noStart, force                             bool
}

func enrolCommand(src *config.Source) *cobra.Command {
	f := &enrolFlags{}
	cmd := &cobra.Command{
		Use: "enrol", Short: "Give this server a name and a credential of its own", Args: cobra.NoArgs,
		Long: `enrol asks a control plane for a name and a credential of this server's own, and
keeps them in the data_dir of the configuration, in identity.json. Then it enables
and restarts the service, where it is installed and reads the same configuration.

At the control plane ` + "`tasker enrol-token create`" + ` prints the token that is needed. Where
other users may see the command line, put it into a file or into ` + tokenVariable + `.

Enrolling may be repeated, after an error too; a server whose endpoint was revoked
gets a new credential.`,
		Example: `  tasker-agent enrol --server https://tasker.example.net:8888 --token TOKEN
  tasker-agent enrol --server https://tasker.example.net:8888 --token-file /root/token --endpoint loadbalancer-1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, src.Resolve())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.server, "server", "", "the control plane's `URL`, like https://HOST:8888")
	flags.StringVar(&f.token, "token", "", "enrolment `token`")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the enrolment token")
	flags.StringVar(&f.endpoint, "endpoint", "", "`name` under which tasks reach this server (default: the configuration's, the one of before, or the host name)")
	flags.StringVar(&f.caFile, "ca-file", "", "`file` with certificates, in PEM, that are trusted beside the system's")
	flags.BoolVar(&f.noStart, "no-start", false, "do not enable and restart the service")
	flags.BoolVar(&f.force, "force", false, "replace an identity under another name or at another control plane")
	_ = cmd.MarkFlagRequired("server") // it exists
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	return cmd
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func (f *enrolFlags) run(cmd *cobra.Command, src config.Source) error {
	token, err := f.readToken()
	if err != nil {
		return err
	}
	c, err := f.configuration(src)
	if err != nil {
		return err
	}
	if i, err := identity.Load(c.DataDir); err == nil && c.Endpoint == "" {
		c.Endpoint = i.Endpoint // as before
	}
	request, err := newRequest(c, config.Enrol{Server: config.URI(f.server), Token: config.Secret(token), Endpoint: f.endpoint, CAFile: f.caFile})
	if err != nil {
		return err
	}
	request.Replace = f.force
	warnOfPlainHTTP(cmd.ErrOrStderr(), cmd.Root().Name(), f.server)
	i, err := identity.Enrol(cmd.Context(), c.DataDir, request)
	if err != nil {
		return daemon.Failed(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "this server is enrolled as endpoint %s; %s keeps its credential\n", i.Endpoint, identity.File(c.DataDir))
	// The configuration must not say otherwise, or the agent would not start.
	if _, err := load(src); err != nil {
		return err
	}
	return daemon.Failed(f.start(cmd.Context(), cmd.OutOrStdout(), src))
}

// start has the service run with the new identity, where there is one.
func (f *enrolFlags) start(ctx context.Context, out io.Writer, src config.Source) error {
	switch {
	case src.File != packagedConfig || !serviceInstalled(ctx):
		by := "--mode " + src.Mode
		if src.File != "" {
			by = "--config " + src.File
		}
		fmt.Fprintf(out, "start the agent, or start it again: tasker-agent run %s\n", by)
		return nil
	case f.noStart:
		fmt.Fprintln(out, "start the agent: systemctl enable "+service+" && systemctl restart "+service)
		return nil
	}
	if err := startService(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "the agent runs")
	return nil
}

func (f *enrolFlags) readToken() (string, error) {
	token := f.token
	switch {
	case f.tokenFile != "":
		content, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return "", fmt.Errorf("read the enrolment token: %w", err)
		}
		token = string(content)
	case token == "":
		token = os.Getenv(tokenVariable)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", errors.New("an enrolment token is needed: --token, --token-file or " + tokenVariable + "; `tasker enrol-token create` prints one at the control plane")
	}
	return token, nil
}

// configuration reads the configuration, which must not contradict the flags.
func (f *enrolFlags) configuration(src config.Source) (*config.Agent, error) {
	c, _, err := config.LoadAgent(src, func(_ string, c *config.Agent) (config.Enrolled, error) {
		e := config.Enrolled{File: "the command line", Endpoint: f.endpoint, Servers: []config.URI{config.URI(f.server)}}
		if strings.HasPrefix(c.Server.URI.Scheme(), "amqp") {
			e.Servers = append(e.Servers, c.Server.URI) // the control plane may lead to it
		}
		return e, nil
	})
	return c, err
}

// newRequest is what the agent of a configuration asks for.
func newRequest(c *config.Agent, e config.Enrol) (identity.Request, error) {
	r := identity.Request{Server: e.Server.Reveal(), Token: e.Token.Reveal(), Endpoint: e.Endpoint}
	if r.Endpoint == "" {
		r.Endpoint = c.Endpoint
	}
	if r.Endpoint == "" {
		name, err := identity.HostName()
		if err != nil {
			return r, err
		}
		r.Endpoint = name
	}
	file := e.CAFile
	if file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return r, fmt.Errorf("read the certificates to trust: %w", err)
		}
		r.CA = string(pem)
	} else {
		r.Fingerprint = identity.Fingerprint(r.Token)
	}
	var err error
	r.TLS, err = trust(c.Server.CAFile, r.CA, r.Fingerprint)
	return r, err
}

// trust is how a control plane is known: by the fingerprint of its own certificate,
// or by the system's authorities and those named beside them.
func trust(file, ca, fingerprint string) (*tls.Config, error) {
	if fingerprint != "" {
		return selfcert.Trust(fingerprint), nil
	}
	return authorities(file, ca)
}

func warnOfPlainHTTP(out io.Writer, name, server string) {
	if u, err := url.Parse(server); err == nil && u.Scheme == "http" && !config.IsLoopback(u.Hostname()) {
		fmt.Fprintf(out, "%s: warning: %s is not encrypted: who listens on the way gets this server's credential; use https\n", name, server)
	}
}
