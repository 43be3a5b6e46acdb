package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// LinkOptions say what a Link works with.
type LinkOptions struct {
	// URI is the broker's: amqp(s)://user:password@host:port/vhost. The user is
	// named as the endpoint, or is the control plane's.
	URI string
	// Endpoint is the name of the agent's endpoint.
	Endpoint string
	// Instance identifies the agent's journal; it shows as the consumer's tag.
	Instance string
	// TLS is whom to trust with amqps; nil trusts the system's authorities.
	TLS *tls.Config
	// Trunk, if set, is the connection on which the link opens its channels.
	Trunk *Trunk
	// Log carries the endpoint's name already.
	Log *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
}

// Link is an agent's end. It has one connection, or its part of a trunk.
type Link struct {
	opts      LinkOptions
	user      string
	standing  *standing
	line      *line
	reception reception
	// intake is where orders come from; nil while there is none.
	intake atomic.Pointer[intake]
}

// The parts of a link's standing, flowing besides.
const (
	connected  = "connection"
	subscribed = "queue"
)

// patience is how long another holder of the endpoint's name may be one that
// the broker has not yet given up.
const patience = 3 * heartbeat

// admission is how a link waits that is shut out: what is wrong takes a person,
// and thousands of failed logins would fill the broker's log.
func admission() *backoff.Policy {
	return &backoff.Policy{First: 4 * time.Second, Cap: time.Minute}
}

// NewLink begins to connect. Its error is about the options only.
func NewLink(opts LinkOptions) (*Link, error) {
	at, err := parseURI(opts.URI)
	if err != nil {
		return nil, err
	}
	if err := tasker.ValidateEndpoint(opts.Endpoint); err != nil {
		return nil, err
	}
	at.tls = opts.TLS
	l := &Link{opts: opts, user: at.user, standing: newStanding(opts.Observer, connected, subscribed, flowing)}
	l.line = &line{
		at: at, name: "tasker-agent " + opts.Endpoint, log: opts.Log,
		setup: l.setUp, tell: l.standing.tell(connected), shutOut: admission(),
	}
	if opts.Trunk != nil {
		l.line.dial = opts.Trunk.session
	}
	l.reception.line = l.line
	l.line.start()
	return l, nil
}

func (l *Link) setUp(s *session) error {
	s.onFlow = l.standing.tell(flowing)
	s.onFlow(nil)
	s.watchFlow()
	var err error
	if s.publisher, err = newPublisher(s, linkWindow); err != nil {
		return err
	}
	s.publisher.wrote = l.settle
	return nil
}

// settle acknowledges, with a report, the orders that it may be about.
func (l *Link) settle() {
	if in := l.intake.Load(); in != nil {
		_ = in.settle() // the connection is lost, as whoever takes orders will find
	}
}

// Close implements transport.Link.
func (l *Link) Close() error {
	l.reception.close()
	l.line.close()
	return nil
}

// Send implements transport.Link: custody has passed when the broker has
// confirmed that the report is in the queue of reports.
func (l *Link) Send(ctx context.Context, reports ...tasker.Report) error {
	failed := map[int]error{}
	msgs, index := make([]message, 0, len(reports)), make([]int, 0, len(reports))
	for i, r := range reports {
		p, err := encodeReport(r)
		if err == nil && r.Endpoint != l.opts.Endpoint {
			err = fmt.Errorf("endpoint %q does not speak for %q", l.opts.Endpoint, r.Endpoint)
		}
		if err != nil {
			failed[i] = fmt.Errorf("%w: %w", transport.ErrRefused, err)
			continue
		}
		p.UserId = l.user
		msgs = append(msgs, message{exchange: ReportsExchange, key: r.Endpoint, mandatory: true, asks: r.Hello != nil, Publishing: p})
		index = append(index, i)
	}
	if len(msgs) > 0 {
		s, err := l.line.now(ctx)
		if err != nil {
			return err
		}
		for j, err := range s.publisher.publish(ctx, msgs) {
			if errors.Is(err, errReturned) {
				err = fmt.Errorf("%w: queue %s is missing until a control plane runs", transport.ErrUnavailable, ReportsQueue)
			}
			if err != nil {
				failed[index[j]] = err
			}
		}
	}
	if len(failed) > 0 {
		return &transport.SendError{Failed: failed, Of: len(reports)}
	}
	return nil
}
