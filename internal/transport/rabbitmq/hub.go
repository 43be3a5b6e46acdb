package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// The components of a hub's health: its connections and the flow of messages.
const (
	publishComponent = "publish"
	consumeComponent = "consume"
	flowComponent    = "flow"
)

// HubOptions configure a Hub.
type HubOptions struct {
	// URI is the URI of the broker: amqp(s)://user:password@host:port/vhost.
	URI string
	// Types are the configured task types.
	Types []tasker.TaskType
	// Authorize returns an error if a RabbitMQ user (the endpoint's own or the control
	// plane's) may not send a hello for the endpoint; nil authorizes every user. An
	// error that wraps transport.ErrUnavailable means that this cannot be decided now.
	// The Hub calls Authorize after it has declared the endpoint's queue, and deletes
	// the queue if the user is not authorized. So a late hello cannot restore the queue
	// of a revoked endpoint.
	Authorize func(ctx context.Context, user, endpoint string) error
	// AuthorizeShared returns the endpoints for which the control plane's user may send no
	// report, and why; nil authorizes it for every endpoint. Errors are as in Authorize.
	AuthorizeShared func(ctx context.Context, endpoints []string) (refused map[string]error, err error)
	// TooFast is called for an endpoint that sends more reports than its quota, for each
	// further report; nil ignores it. It must not block.
	TooFast func(endpoint string)
	Log     *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
	// Metrics may be nil.
	Metrics *Metrics
	// Clock returns the time for the expiry of orders; nil means time.Now.
	Clock func() time.Time
}

// Hub is the control plane's end. It publishes on a connection of its own, because a broker
// that lacks memory reads nothing from a connection that publishes, not even its
// acknowledgements. Receive has another one.
type Hub struct {
	opts       HubOptions
	user       string
	health     *health
	publish    *connection
	consume    *connection
	operations *wire.Operations
	bindings   *bindings
	quota      *wire.Quota
	refusals   *wire.Refusals
	warnOnce   sync.Once
}

// NewHub returns a Hub that begins to connect. It returns an error only for invalid options.
func NewHub(opts HubOptions) (*Hub, error) {
	broker, err := parseURI(opts.URI)
	if err != nil {
		return nil, err
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.TooFast == nil {
		opts.TooFast = func(string) {}
	}
	h := &Hub{
		opts:       opts,
		user:       broker.user,
		health:     newHealth(opts.Observer, publishComponent, consumeComponent, flowComponent),
		quota:      wire.NewQuota(opts.Clock),
		refusals:   wire.NewRefusals(opts.Log, opts.Clock),
		operations: wire.NewOperations(),
	}
	h.bindings = newBindings(opts, h.notifyReady)
	h.publish = &connection{broker: broker, name: "tasker-controlplane " + publishComponent, log: opts.Log, setUp: h.setUpPublishing, observe: h.observer(publishComponent)}
	h.consume = &connection{broker: broker, name: "tasker-controlplane " + consumeComponent, log: opts.Log, setUp: h.setUpConsuming, observe: h.observer(consumeComponent)}
	h.publish.start()
	h.consume.start()
	return h, nil
}

// observer returns a function that records the state of a connection.
func (h *Hub) observer(connection string) func(error) {
	return func(err error) {
		h.opts.Metrics.setConnected(connection, err)
		h.health.set(connection, err)
	}
}

func (h *Hub) setUpPublishing(s *session) error {
	if err := declare(s, h.opts.Types); err != nil {
		return err
	}
	s.onFlow = func(err error) {
		h.opts.Metrics.setBlocked(err)
		h.health.set(flowComponent, err)
	}
	s.onFlow(nil)
	s.watchFlow()
	var err error
	s.publisher, err = newPublisher(s, hubWindow)
	return err
}

func (h *Hub) setUpConsuming(s *session) error { return declare(s, h.opts.Types) }

// Close implements transport.Hub.
func (h *Hub) Close() error {
	h.operations.Close()
	h.operations.Wait()
	h.publish.close()
	h.consume.close()
	return nil
}

// Send implements transport.Hub. An order is accepted after the broker has confirmed that it
// is in a queue. An order to all endpoints is accepted even if no queue is bound yet.
func (h *Hub) Send(ctx context.Context, orders ...tasker.Order) error {
	return sendAll(ctx, h.publish, orders, h.newMessage, func(o tasker.Order) error {
		h.opts.Metrics.countReturned()
		h.bindings.forget(o.Endpoint)
		return fmt.Errorf("%w: %w", transport.ErrUnroutable, errReturned)
	})
}

// newMessage returns the message of an order.
func (h *Hub) newMessage(o tasker.Order) (message, error) {
	toAll := o.Endpoint == tasker.AllEndpoints
	if err := tasker.ValidateEndpoint(o.Endpoint); err != nil && !toAll {
		return message{}, fmt.Errorf("%w: %w", transport.ErrUnroutable, err)
	}
	p, err := encodeOrder(o, h.opts.Clock())
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	if o.Assignment == nil && !toAll {
		return message{key: Queue(o.Endpoint), mandatory: true, Publishing: p}, nil
	}
	if err := wire.CheckType(h.opts.Types, o.Type); err != nil {
		return message{}, err
	}
	return message{exchange: Exchange(o.Type), key: o.Endpoint, mandatory: !toAll, Publishing: p}, nil
}
