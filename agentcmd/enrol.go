package agentcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
	"github.com/MatthiasWiesner/tasker/internal/textfile"
)

const (
	// packagedConfig is the configuration file that packages install and the unit reads.
	packagedConfig = "/etc/tasker-agent/config.yaml"
	tokenVariable  = "TASKER_ENROL_TOKEN"
)

// enrolFlags are the flags of the command enrol.
type enrolFlags struct {
	server, token, tokenFile, endpoint, caFile string
	noStart, force                             bool
}

func enrolCommand(src *config.Source) *cobra.Command {
	f := &enrolFlags{}
	cmd := &cobra.Command{
		Use: "enrol", Short: "Get a name and a credential for this server", Args: cobra.NoArgs,
		Long: `enrol requests a name and a credential for this server from a control plane. It
stores them in identity.json in the data_dir of the configuration. Then it enables
and restarts the service, if the service is installed and reads this configuration.

On the control plane, ` + "`tasker enrol-token create`" + ` prints the required token. If
other users can see the command line, pass the token in a file or in the environment
variable ` + tokenVariable + `.

enrol may be repeated, also after an error. A server whose endpoint was revoked gets a
new credential.`,
		Example: `  tasker-agent enrol --server https://tasker.example.net:8888 --token TOKEN
  tasker-agent enrol --server https://tasker.example.net:8888 --token-file /root/token --endpoint loadbalancer-1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, src.Resolve())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.server, "server", "", "`URL` of the control plane, such as https://HOST:8888")
	flags.StringVar(&f.token, "token", "", "enrolment `token`")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the enrolment token")
	flags.StringVar(&f.endpoint, "endpoint", "", "`name` under which tasks reach this server (default: from the configuration, the last enrolment, or the host name)")
	flags.StringVar(&f.caFile, "ca-file", "", "`file` with CA certificates in PEM, trusted in addition to the system's")
	flags.BoolVar(&f.noStart, "no-start", false, "do not enable and restart the service")
	flags.BoolVar(&f.force, "force", false, "replace an identity with another name or control plane")
	_ = cmd.MarkFlagRequired("server")
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
	c, err := f.loadConfig(src)
	if err != nil {
		return err
	}
	if i, err := identity.Load(c.DataDir); err == nil && c.Endpoint == "" {
		c.Endpoint = i.Endpoint
	}
	request, err := newRequest(c, config.Enrol{Server: config.URI(f.server), Token: config.Secret(token), Endpoint: f.endpoint, CAFile: f.caFile})
	if err != nil {
		return err
	}
	request.Replace = f.force
	i, err := identity.Enrol(cmd.Context(), c.DataDir, request)
	if err != nil {
		return daemon.Failed(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "this server is enrolled as endpoint %s; its credential is in %s\n", i.Endpoint, identity.File(c.DataDir))
	// The agent does not start if the configuration contradicts its identity.
	if _, err := load(src); err != nil {
		return err
	}
	return daemon.Failed(f.start(cmd.Context(), cmd.OutOrStdout(), src))
}

// start restarts the service with the new identity, or prints how to start the agent.
func (f *enrolFlags) start(ctx context.Context, out io.Writer, src config.Source) error {
	switch {
	case src.File != packagedConfig || !serviceInstalled(ctx):
		flag := "--mode " + src.Mode
		if src.File != "" {
			flag = "--config " + src.File
		}
		fmt.Fprintf(out, "start or restart the agent: tasker-agent run %s\n", flag)
		return nil
	case f.noStart:
		fmt.Fprintln(out, "start the agent: systemctl enable "+service+" && systemctl restart "+service)
		return nil
	}
	if err := startService(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "the agent is running")
	return nil
}

func (f *enrolFlags) readToken() (string, error) {
	token := f.token
	switch {
	case f.tokenFile != "":
		content, err := privatefile.Read(f.tokenFile)
		if err != nil {
			return "", fmt.Errorf("read the enrolment token: %w", err)
		}
		if content, err = textfile.TrimMark(content); err != nil {
			return "", fmt.Errorf("read the enrolment token from %s: %w", f.tokenFile, err)
		}
		token = string(content)
	case token == "":
		token = os.Getenv(tokenVariable)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", errors.New("an enrolment token is required: --token, --token-file or " + tokenVariable + "; `tasker enrol-token create` on the control plane prints one")
	}
	return token, nil
}

// loadConfig reads the configuration, which must not contradict the flags.
func (f *enrolFlags) loadConfig(src config.Source) (*config.Agent, error) {
	c, _, err := config.LoadAgent(src, func(_ string, c *config.Agent) (config.Enrolled, error) {
		e := config.Enrolled{File: "the command line", Endpoint: f.endpoint, Servers: []config.URI{config.URI(f.server)}}
		if strings.HasPrefix(c.Server.URI.Scheme(), "amqp") {
			e.Servers = append(e.Servers, c.Server.URI) // the control plane may direct the agent to it
		}
		return e, nil
	})
	return c, err
}

// newRequest returns the enrolment request of an agent with this configuration.
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
	if e.CAFile != "" {
		pem, err := os.ReadFile(e.CAFile) //nolint:gosec // the operator names the file
		if err != nil {
			return r, fmt.Errorf("read the trusted certificates: %w", err)
		}
		r.CA = string(pem)
	} else {
		r.Fingerprint = identity.Fingerprint(r.Token)
	}
	var err error
	r.TLS, err = trustControlPlane(c.Server.CAFile, r.CA, r.Fingerprint, r.Server)
	return r, err
}
