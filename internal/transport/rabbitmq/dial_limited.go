package rabbitmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// secureFunc returns the connection to use instead of another one.
type secureFunc func(context.Context, net.Conn) (net.Conn, error)

// dialLimited opens a session whose received messages are limited in size and memory. The
// limits need the messages in clear, so TLS comes before them.
func dialLimited(ctx context.Context, broker address, name string) (*session, error) {
	uri, secure, err := broker.withoutTLS()
	if err != nil {
		return nil, err
	}
	broker.uri = uri
	received := newBudget(memoryBudget)
	s, err := dial(ctx, broker, name, func(ctx context.Context, c net.Conn) (net.Conn, error) {
		c, err := secure(ctx, c)
		if err != nil {
			return nil, err
		}
		return newBoundedConn(c, reportrules.MaxReport, received), nil
	})
	if err != nil {
		return nil, err
	}
	s.received = received
	return s, nil
}

// withoutTLS returns the URI of the same broker without TLS, and a function that secures
// the connection instead of the library.
func (a address) withoutTLS() (uri string, secure secureFunc, err error) {
	u, err := ParseURI(a.uri)
	if err != nil {
		return "", nil, err
	}
	if u.Scheme != "amqps" {
		return a.uri, func(_ context.Context, c net.Conn) (net.Conn, error) { return c, nil }, nil
	}
	config := a.tls.Clone()
	if config == nil {
		if config, err = tlsConfig(u); err != nil {
			return "", nil, err
		}
	}
	config.ServerName = cmp.Or(config.ServerName, u.Host)
	secure = func(ctx context.Context, c net.Conn) (net.Conn, error) {
		client := tls.Client(c, config)
		if err := client.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return client, nil
	}
	return "amqp" + strings.TrimPrefix(a.uri, "amqps"), secure, nil
}

// tlsConfig returns the configuration that the parameters of a URI describe.
func tlsConfig(u amqp.URI) (*tls.Config, error) {
	config := &tls.Config{ServerName: u.ServerName, MinVersion: tls.VersionTLS12}
	if u.CACertFile != "" {
		pem, err := os.ReadFile(u.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA certificate of RabbitMQ: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA certificate of RabbitMQ: %s has no certificate in PEM form", u.CACertFile)
		}
	}
	if u.CertFile != "" && u.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(u.CertFile, u.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load the client certificate for RabbitMQ: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
