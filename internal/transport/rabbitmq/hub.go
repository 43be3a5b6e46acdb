package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// The connections of a hub, and the state of the flow, as its parts are called.
const (
	publishing = "publish"
	consuming  = "consume"
	flowing    = "flow"
)

// HubOptions say what a Hub works with.
type HubOptions struct {
	// URI is the broker's: amqp(s)://user:password@host:port/vhost.
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
	Log       *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
	// Metrics may be nil.
	Metrics *Metrics
	// Clock is time.Now unless set; orders expire by it.
	Clock func() time.Time
}

// Hub is the control plane's end. It has two connections, because a broker
// short of memory reads nothing from one that publishes, its acknowledgements
// included.
type Hub struct {
	opts      HubOptions
	user      string
	standing  *standing
	publish   *line
	consume   *line
	reception reception
	routes    *routes
	warnOnce  sync.Once
}

// NewHub begins to connect. Its error is about the options only.
func NewHub(opts HubOptions) (*Hub, error) {
	at, err := parseURI(opts.URI)
	if err != nil {
		return nil, err
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	h := &Hub{
		opts:     opts,
		user:     at.user,
		standing: newStanding(opts.Observer, publishing, consuming, flowing),
	}
	h.routes = newRoutes(opts, h.ready)
	h.publish = &line{at: at, name: "tasker-controlplane " + publishing, log: opts.Log, setup: h.setUpPublishing, tell: h.tell(publishing)}
	h.consume = &line{at: at, name: "tasker-controlplane " + consuming, log: opts.Log, setup: h.setUpConsuming, tell: h.tell(consuming)}
	h.reception.line = h.consume
	h.publish.start()
	h.consume.start()
	return h, nil
}

func (h *Hub) tell(connection string) func(error) {
	return func(err error) {
		h.opts.Metrics.session(connection, err)
		h.standing.set(connection, err)
	}
}

func (h *Hub) setUpPublishing(s *session) error {
	if err := declare(s, h.opts.Types); err != nil {
		return err
	}
	s.onFlow = func(err error) {
		h.opts.Metrics.flow(err)
		h.standing.set(flowing, err)
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
	h.reception.close()
	h.publish.close()
	h.consume.close()
	return nil
}

// Send implements transport.Hub: custody has passed when the broker has
// confirmed that the message is in a queue. An order to everyone is sent when
// the broker has it, even if nobody subscribes yet.
func (h *Hub) Send(ctx context.Context, orders ...tasker.Order) error {
	failed := map[int]error{}
	msgs, index := make([]message, 0, len(orders)), make([]int, 0, len(orders))
	for i, o := range orders {
		m, err := h.address(o)
		if err != nil {
			failed[i] = err
			continue
		}
		msgs, index = append(msgs, m), append(index, i)
	}
	if len(msgs) > 0 {
		s, err := h.publish.now(ctx)
		if err != nil {
			return err
		}
		for j, err := range s.publisher.publish(ctx, msgs) {
			i := index[j]
			switch {
			case errors.Is(err, errReturned):
				h.opts.Metrics.giveBack()
				h.routes.forget(orders[i].Endpoint)
				failed[i] = fmt.Errorf("%w: %w", transport.ErrUnroutable, err)
			case err != nil:
				failed[i] = err
			}
		}
	}
	if len(failed) > 0 {
		return &transport.SendError{Failed: failed, Of: len(orders)}
	}
	return nil
}

// address makes a message of an order.
func (h *Hub) address(o tasker.Order) (message, error) {
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
	if !h.routes.known(o.Type) {
		return message{}, fmt.Errorf("%w: type %q is not configured", transport.ErrUnroutable, o.Type)
	}
	return message{exchange: Exchange(o.Type), key: o.Endpoint, mandatory: !toAll, Publishing: p}, nil
}
