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
	// heartbeat is how often both sides show that they live. The broker gives a
	// frozen peer's exclusive consumer up after three of them.
	heartbeat = 10 * time.Second
	// dialTimeout bounds the connecting, handshakeTimeout TLS and AMQP after it.
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 15 * time.Second
)

// ErrCredentials: the broker does not know the user, or not with this password.
// It is a transport.ErrUnauthorized.
var ErrCredentials = fmt.Errorf("%w: the user is unknown, or the password is wrong", transport.ErrUnauthorized)

// address is where a broker is and who we are there.
type address struct {
	uri   string
	user  string
	where string // host:port, vhost; fit to be shown
	tls   *tls.Config
}

// ParseURI reads an AMQP URI. Its errors do not show the URI, nor a part of it,
// because with a password that is not percent-encoded any part may be of it; a
// '#' or a second '@' is the sign of such a one.
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
	return address{uri: uri, user: u.Username, where: fmt.Sprintf("%s, vhost %q", host, u.Vhost)}, nil
}

// dial opens a session. It does not outlive ctx.
func dial(ctx context.Context, at address, name string) (*session, error) {
	var raw net.Conn
	var stop func() bool
	conn, err := amqp.DialConfig(at.uri, amqp.Config{
		TLSClientConfig: at.tls.Clone(), // the library sets the server's name in it
		Heartbeat:       heartbeat,
		Properties:      amqp.Table{"product": "tasker", "connection_name": name},
		Dial: func(network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// The library lifts this deadline after the handshake, which knows no context.
			if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
				_ = c.Close()
				return nil, err
			}
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
			raw = c
			return c, nil
		},
	})
	if stop != nil {
		stop()
	}
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, explain(at, err)
	}
	return newSession(ctx, conn, raw), nil
}

// explain says for a person why a connection could not be opened.
func explain(at address, err error) error {
	var refused *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return fmt.Errorf("RabbitMQ at %s refuses user %q: %w", at.where, at.user, ErrCredentials)
	case errors.As(err, &refused) && refused.Code == amqp.NotAllowed && strings.Contains(refused.Reason, "refused for user"):
		return fmt.Errorf("%w: RabbitMQ at %s gives user %q no access to the vhost; tasker-controlplane initialize --rabbitmq does for the control plane's, tasker-agent enrol for an agent's: %w", transport.ErrUnauthorized, at.where, at.user, err)
	case errors.As(err, &refused) && refused.Code == amqp.NotAllowed:
		return fmt.Errorf("RabbitMQ at %s lets user %q not in; tasker-controlplane initialize --rabbitmq makes vhost and permissions: %w", at.where, at.user, err)
	}
	return fmt.Errorf("connect to RabbitMQ at %s: %w", at.where, err)
}
