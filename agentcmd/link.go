package agentcmd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// newLink chooses the wire by the scheme of the server. An agent that is enrolled
// connects with its own credential, whatever the configuration has.
func (s *setup) newLink(instance string, observer transport.Observer, log *slog.Logger) (transport.Link, error) {
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
		conf, err := authorities(s.config.Server.CAFile, ca)
		if err != nil {
			return nil, err
		}
		return rabbitmq.NewLink(rabbitmq.LinkOptions{
			URI: server, Endpoint: s.config.Endpoint, Instance: instance, TLS: conf, Log: log, Observer: observer,
		})
	}
	conf, err := trust(s.config.Server.CAFile, ca, fingerprint)
	if err != nil {
		return nil, err
	}
	return httplink.NewLink(httplink.LinkOptions{
		URI: server, Endpoint: s.config.Endpoint, Instance: instance, TLS: conf, Log: log, Observer: observer, Token: token,
	})
}

// authorities adds the certificates of server.ca_file, and those in ca, to the
// system's. It is nil where there are none to add.
func authorities(file, ca string) (*tls.Config, error) {
	if file == "" && ca == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("read server.ca_file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read server.ca_file: %s holds no certificate in PEM", file)
		}
	}
	if ca != "" && !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("the file with the certificates to trust holds none in PEM")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// enrolAgain is what helps an agent that is shut out.
const enrolAgain = "enrol again: tasker-agent enrol --server URL --token TOKEN"

// observe logs each change of the connection once, counts it and tells the
// service manager.
func observe(log *slog.Logger, metrics *agent.Metrics, notify *sysservice.Notifier) transport.Observer {
	said := ""
	return func(err error) {
		metrics.ObserveLink(err)
		switch {
		case err == nil:
			said = ""
			log.Info("connected to the control plane")
			notify.Status("connected to the control plane")
		case err.Error() == said:
		case errors.Is(err, transport.ErrUnauthorized):
			said = err.Error()
			log.Error("shut out by the control plane; trying again, slowly", "reason", err, "help", enrolAgain)
			notify.Status("shut out by the control plane; " + enrolAgain + ": " + said)
		default:
			said = err.Error()
			log.Warn("not connected; trying again", "reason", err)
			notify.Status("not connected; trying again: " + said)
		}
	}
}
