package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const (
	// heartbeat is the interval of the AMQP heartbeats. After three missed heartbeats the
	// broker releases the exclusive consumer of a lost peer.
	heartbeat = 10 * time.Second
	// dialTimeout limits the TCP connection, handshakeTimeout the TLS and AMQP handshakes.
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 15 * time.Second
)

// ErrCredentials means that the user is unknown or the password is wrong. It wraps
// transport.ErrUnauthorized.
var ErrCredentials = fmt.Errorf("%w: the user is unknown, or the password is wrong", transport.ErrUnauthorized)

// address is the address of a broker and the user that connects to it.
type address struct {
	uri         string
	host        string // host:port
	user        string
	description string // host:port and vhost, without secrets
	tls         *tls.Config
}

// ParseURI parses an AMQP URI. Its errors do not contain any part of the URI: if the
// password is not percent-encoded, each part may belong to it. A '#' or a second '@'
// indicates such a password.
func ParseURI(uri string) (amqp.URI, error) {
	u, err := amqp.ParseURI(uri)
	if err != nil || strings.Contains(uri, "#") || strings.Count(uri, "@") > 1 {
		return amqp.URI{}, errors.New("the URI of the message queue is not valid: write it as amqp://user:password@host:port/vhost (amqps:// for TLS), special characters in the password percent-encoded")
	}
	return u, nil
}

func parseURI(uri string) (address, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return address{}, err
	}
	host := net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	return address{uri: uri, host: host, user: u.Username, description: fmt.Sprintf("%s, vhost %q", host, u.Vhost)}, nil
}

// dial opens a session, which ends with ctx. secure changes the connection before it is used;
// nil leaves it as it is.
func dial(ctx context.Context, broker address, name string, secure secureFunc) (*session, error) {
	var raw net.Conn
	var stop func() bool
	dialer := &net.Dialer{Timeout: dialTimeout}
	conn, err := amqp.DialConfig(broker.uri, amqp.Config{
		TLSClientConfig: broker.tls.Clone(), // the library modifies it
		Heartbeat:       heartbeat,
		Properties:      amqp.Table{"product": "tasker", "connection_name": name},
		Dial: func(network, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, broker.host)
			if err != nil {
				return nil, err
			}
			raw, stop = c, context.AfterFunc(ctx, func() { _ = c.Close() })
			// The handshake accepts no context; the library removes this deadline after it.
			if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil || secure == nil {
				return c, err
			}
			return secure(ctx, c)
		},
	})
	if stop != nil {
		stop()
	}
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, dialError(broker, err)
	}
	return newSession(ctx, conn, raw), nil
}

// dialError explains why a connection could not be opened.
func dialError(broker address, err error) error {
	var refused *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return fmt.Errorf("RabbitMQ at %s refuses user %q: %w", broker.description, broker.user, ErrCredentials)
	case errors.As(err, &refused) && refused.Code == amqp.NotAllowed && strings.Contains(refused.Reason, "refused for user"):
		return fmt.Errorf("%w: RabbitMQ at %s gives user %q no access to the vhost; tasker-controlplane initialize --rabbitmq grants it to the control plane's user, tasker-agent enrol to the user of an agent: %w", transport.ErrUnauthorized, broker.description, broker.user, err)
	case errors.As(err, &refused) && refused.Code == amqp.NotAllowed:
		return fmt.Errorf("RabbitMQ at %s refuses user %q; tasker-controlplane initialize --rabbitmq creates the vhost and the permissions: %w", broker.description, broker.user, err)
	}
	return fmt.Errorf("connect to RabbitMQ at %s: %w", broker.description, err)
}
