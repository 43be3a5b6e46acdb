package rabbitmq

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// LinkOptions configure a Link.
type LinkOptions struct {
	// URI is the URI of the broker: amqp(s)://user:password@host:port/vhost. The user has
	// the name of the endpoint, or is the control plane's.
	URI string
	// Endpoint is the name of the agent's endpoint.
	Endpoint string
	// Instance identifies the agent's journal; the consumer tag contains it.
	Instance string
	// TLS is the configuration for amqps; nil trusts the system's certificate authorities.
	TLS *tls.Config
	// Shared is the connection on which the link opens its channels; nil opens a connection
	// of its own.
	Shared *SharedConnection
	// Log must already have the endpoint's name as an attribute.
	Log *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
}

// Link is an agent's end. It has one connection, or a share of one.
type Link struct {
	opts       LinkOptions
	user       string
	health     *health
	connection *connection
	operations *wire.Operations
	// subscription is the active subscription to the endpoint's queue; nil if there is
	// none.
	subscription atomic.Pointer[subscription]
}

// The components of a link's health, besides flowComponent.
const (
	connectionComponent = "connection"
	queueComponent      = "queue"
)

// NewLink returns a Link that begins to connect. It returns an error only for invalid
// options.
func NewLink(opts LinkOptions) (*Link, error) {
	broker, err := parseURI(opts.URI)
	if err != nil {
		return nil, err
	}
	if err := tasker.ValidateEndpoint(opts.Endpoint); err != nil {
		return nil, err
	}
	broker.tls = opts.TLS
	l := &Link{
		opts: opts, user: broker.user, operations: wire.NewOperations(),
		health: newHealth(opts.Observer, connectionComponent, queueComponent, flowComponent),
	}
	l.connection = &connection{
		broker: broker, name: "tasker-agent " + opts.Endpoint, log: opts.Log,
		setUp: l.setUp, observe: l.health.setter(connectionComponent), slow: true,
	}
	if opts.Shared != nil {
		l.connection.dial = opts.Shared.session
	}
	l.connection.start()
	return l, nil
}

func (l *Link) setUp(s *session) error {
	s.onFlow = l.health.setter(flowComponent)
	s.onFlow(nil)
	s.watchFlow()
	var err error
	if s.publisher, err = newPublisher(s, linkWindow); err != nil {
		return err
	}
	s.publisher.afterWrite = l.flushAck
	return nil
}

// flushAck sends the pending acknowledgement of orders together with a report.
func (l *Link) flushAck() {
	if sub := l.subscription.Load(); sub != nil {
		_ = sub.flushAck() // Receive returns the error of a lost connection
	}
}

// Close implements transport.Link.
func (l *Link) Close() error {
	l.operations.Close()
	l.operations.Wait()
	l.connection.close()
	return nil
}

// Send implements transport.Link. A report is accepted after the broker has confirmed that it
// is in the queue of reports.
func (l *Link) Send(ctx context.Context, reports ...tasker.Report) error {
	return sendAll(ctx, l.connection, reports, l.newMessage, func(tasker.Report) error {
		return fmt.Errorf("%w: queue %s is missing until a control plane runs", transport.ErrUnavailable, ReportsQueue)
	})
}

// newMessage returns the message of a report.
func (l *Link) newMessage(r tasker.Report) (message, error) {
	p, err := encodeReport(r)
	if err == nil && r.Endpoint != l.opts.Endpoint {
		err = fmt.Errorf("endpoint %q cannot send a report of %q", l.opts.Endpoint, r.Endpoint)
	}
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	p.UserId = l.user
	return message{exchange: ReportsExchange, key: r.Endpoint, mandatory: true, wantsReply: r.Hello != nil, Publishing: p}, nil
}
