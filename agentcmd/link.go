package agentcmd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/internal/certfile"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// newLink returns a link for the scheme of the server's URI. It calls contested when another
// process requests the endpoint's name. An enrolled agent uses the
// server and the credential of its identity instead of those in the configuration.
func (s *setup) newLink(instance string, observer transport.Observer, contested func(), log *slog.Logger) (transport.Link, error) {
	server, ca, fingerprint := s.config.Server.URI.Reveal(), "", ""
	token := func() (string, error) {
		token, err := s.config.Server.Token()
		return token.Reveal(), err
	}
	if i := s.identity; i != nil {
		server, ca, fingerprint = i.URI(), i.CA, i.Fingerprint
		token = func() (string, error) { return i.Secret.Reveal(), nil }
	}
	if strings.HasPrefix(strings.ToLower(server), "amqp") {
		conf, err := trustCAs(s.config.Server.CAFile, ca, server)
		if err != nil {
			return nil, err
		}
		return rabbitmq.NewLink(rabbitmq.LinkOptions{
			URI: server, Endpoint: s.config.Endpoint, Instance: instance, TLS: conf, Log: log, Observer: observer,
		})
	}
	conf, err := trustControlPlane(s.config.Server.CAFile, ca, fingerprint, server)
	if err != nil {
		return nil, err
	}
	return httplink.NewLink(httplink.LinkOptions{
		URI: server, Endpoint: s.config.Endpoint, Instance: instance, TLS: conf, Log: log, Observer: observer, Token: token,
		Contested: contested,
	})
}

// trustControlPlane returns the TLS configuration for a control plane: it trusts only the
// certificate with the fingerprint or, without a fingerprint, the CAs.
func trustControlPlane(caFile, ca, fingerprint, server string) (*tls.Config, error) {
	if fingerprint != "" {
		return selfcert.Trust(fingerprint), nil
	}
	return trustCAs(caFile, ca, server)
}

// trustCAs returns a TLS configuration that trusts the system's CAs and, in PEM, those in
// the file server.ca_file and in ca. The file may be replaced while the agent runs. It
// returns nil if both are empty.
func trustCAs(caFile, ca, server string) (*tls.Config, error) {
	switch {
	case caFile != "":
		u, err := url.Parse(server)
		if err != nil {
			return nil, errors.New("the server's URI is not valid") // its error quotes the password
		}
		conf, err := certfile.TrustAuthorities(caFile, ca, u.Hostname())
		if err != nil {
			return nil, fmt.Errorf("read server.ca_file: %w", err)
		}
		return conf, nil
	case ca != "":
		pool, err := certfile.Pool([]byte(ca))
		if err != nil {
			return nil, fmt.Errorf("read the trusted certificates: %w", err)
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
	}
	return nil, nil //nolint:nilnil // the system's
}

// enrolAgain is the advice for an agent that the control plane refuses.
const enrolAgain = "enrol again: tasker-agent enrol --server URL --token TOKEN"

// newObserver returns an observer that passes every change of the connection to metrics and
// connection, and logs each once and passes it to the service manager.
func newObserver(log *slog.Logger, metrics *agent.Metrics, notify *sysservice.Notifier, connection *agent.Connection) transport.Observer {
	logged := ""
	return func(err error) {
		metrics.ObserveLink(err)
		connection.Observe(err)
		switch {
		case err == nil:
			logged = ""
			log.Info("connected to the control plane")
			notify.Status("connected to the control plane")
		case err.Error() == logged:
		case errors.Is(err, transport.ErrUnauthorized):
			logged = err.Error()
			log.Error("refused by the control plane; retrying at long intervals", "reason", err, "help", enrolAgain)
			notify.Status("refused by the control plane; " + enrolAgain + ": " + logged)
		default:
			logged = err.Error()
			log.Warn("not connected; retrying", "reason", err)
			notify.Status("not connected; retrying: " + logged)
		}
	}
}
