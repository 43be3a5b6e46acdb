package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

const (
	// bindingsExpiry is how long known bindings are trusted. Another control plane may
	// have changed them since.
	bindingsExpiry = 10 * time.Minute
	// updateChannels is the number of channels that share the changes of a batch.
	updateChannels = 4
)

// sentReport is a report with the properties of its message.
type sentReport struct {
	tasker.Report
	encoded  []byte
	delivery amqp.Delivery
	// user is the RabbitMQ user that the broker has authenticated.
	user string
	// replyTo is the address that a hello gives for the notification that its queue is
	// declared; it may be empty.
	replyTo string
}

// bindings declares the queue of each endpoint and its bindings, as the hellos and
// heartbeats require.
type bindings struct {
	types     []tasker.TaskType
	log       *slog.Logger
	authorize func(ctx context.Context, user, endpoint string) error
	// notifyReady notifies agents that their queues are declared.
	notifyReady func(ctx context.Context, addresses []string)

	mu    sync.Mutex
	known map[string]knownBindings // by endpoint
}

// knownBindings are the types that an endpoint's queue was bound to at a time.
type knownBindings struct {
	types []string
	at    time.Time
}

func newBindings(o HubOptions, notifyReady func(context.Context, []string)) *bindings {
	return &bindings{types: o.Types, log: o.Log, authorize: o.Authorize, notifyReady: notifyReady, known: map[string]knownBindings{}}
}

// update applies the changes that the reports require. It returns the endpoints that were
// refused, and why: the broker refused the change, or the sender is not authorized
// (wire.ErrSender). An error that wraps ErrUnavailable means that the update must be repeated;
// any other error ends the session.
func (b *bindings) update(ctx context.Context, s *session, reports []sentReport) (map[string]error, error) {
	changes := b.changes(reports)
	var r refusals
	var running sync.WaitGroup
	for part := range slices.Chunk(changes, max(1, (len(changes)+updateChannels-1)/updateChannels)) {
		running.Go(func() { b.updatePart(ctx, s, part, &r) })
	}
	running.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case s.conn.IsClosed():
		return nil, errors.New("the connection was lost while queues were set up")
	}
	return r.refused, r.unavailable
}

// updatePart applies changes on one channel and notifies the agents that wait for them.
func (b *bindings) updatePart(ctx context.Context, s *session, changes []change, r *refusals) {
	if b.apply(s, changes) != nil {
		changes = b.applyIndividually(s, changes, r)
	}
	var addresses []string
	for _, c := range changes {
		if err := b.checkSender(ctx, s, c); err != nil {
			r.add(c.endpoint, err)
		} else if c.replyTo != "" {
			addresses = append(addresses, c.replyTo)
		}
	}
	if len(addresses) > 0 {
		b.notifyReady(ctx, addresses)
	}
}

// applyIndividually applies changes one by one after one of them has failed, so that the
// others succeed. It returns the applied changes.
func (b *bindings) applyIndividually(s *session, changes []change, r *refusals) (applied []change) {
	for _, c := range changes {
		c.unchanged = false
		err := b.apply(s, []change{c})
		switch {
		case err == nil:
			applied = append(applied, c)
		case !s.conn.IsClosed():
			b.log.Error("queue of an endpoint cannot be set up; its hello is refused", "endpoint", c.endpoint, "queue", Queue(c.endpoint), "error", err)
			r.add(c.endpoint, err)
		}
	}
	return applied
}

// apply declares the queues, binds them to the types that their endpoints serve, and unbinds
// them from the other types. It sends most methods without waiting for a reply: a refusal
// closes the channel, and the last call returns the error.
func (b *bindings) apply(s *session, changes []change) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel to declare: %w", err)
	}
	defer s.closeChannel(ch)
	for _, c := range changes {
		if err := c.apply(ch); err != nil {
			b.forget(c.endpoint)
			return err
		}
	}
	last := Queue(changes[len(changes)-1].endpoint)
	if _, err := ch.QueueDeclarePassive(last, true, false, false, false, nil); err != nil {
		for _, c := range changes {
			b.forget(c.endpoint)
		}
		return declareError("queue", last, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range changes {
		if !c.unchanged {
			b.known[c.endpoint] = knownBindings{types: c.serves, at: time.Now()}
		}
	}
	return nil
}

// checkSender returns an error if the user may not report for the endpoint. It then deletes
// the endpoint's queue.
func (b *bindings) checkSender(ctx context.Context, s *session, c change) error {
	if b.authorize == nil {
		return nil
	}
	err := b.authorize(ctx, c.user, c.endpoint)
	if err == nil {
		return nil
	}
	b.forget(c.endpoint)
	if ctx.Err() != nil || errors.Is(err, transport.ErrUnavailable) {
		return err
	}
	b.log.Warn("endpoint is not authorized; its hello is refused", "endpoint", c.endpoint, "user", c.user, "error", err)
	ch, failure := s.conn.Channel()
	if failure == nil {
		defer s.closeChannel(ch)
		_, failure = ch.QueueDelete(Queue(c.endpoint), false, false, false)
	}
	if failure != nil && !s.conn.IsClosed() {
		b.log.Error("queue of an endpoint that is not authorized cannot be deleted", "queue", Queue(c.endpoint), "error", failure)
	}
	return fmt.Errorf("%w: %w", wire.ErrSender, err)
}

// changes returns the changes that the reports require; the last hello or heartbeat of each
// endpoint counts. A hello always requires a change, because the queue may have been
// deleted. If the bindings are known, it only checks the queue: each binding costs the
// broker a transaction, and after an outage all agents reconnect at once.
func (b *bindings) changes(reports []sentReport) []change {
	var changes []change
	index := map[string]int{}
	for _, report := range reports {
		var presence tasker.Presence
		switch {
		case report.Hello != nil:
			presence = report.Hello.Presence
		case report.Heartbeat != nil:
			presence = report.Heartbeat.Presence
		default:
			continue
		}
		c := b.newChange(report, presence)
		i, repeated := index[c.endpoint]
		switch {
		case repeated:
			changes[i] = c
		case report.Heartbeat == nil || !c.unchanged:
			index[c.endpoint] = len(changes)
			changes = append(changes, c)
		}
	}
	return changes
}

// newChange returns the change that a hello or heartbeat with this presence requires.
func (b *bindings) newChange(report sentReport, presence tasker.Presence) change {
	c := change{endpoint: report.Endpoint, user: report.user, replyTo: report.replyTo, serves: []string{}}
	var all []string
	for _, t := range b.types {
		all = append(all, t.Name)
		if t.ServedBy(presence) {
			c.serves = append(c.serves, t.Name)
		}
	}
	bound, known := b.lastTypes(c.endpoint)
	if !known {
		bound = all
	}
	c.unchanged = known && slices.Equal(bound, c.serves)
	c.unbind = slices.DeleteFunc(bound, func(t string) bool { return slices.Contains(c.serves, t) })
	return c
}

// lastTypes returns a copy of the types that the endpoint's queue is bound to, if they are
// known and not expired.
func (b *bindings) lastTypes(endpoint string) ([]string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last, ok := b.known[endpoint]
	if !ok || time.Since(last.at) >= bindingsExpiry {
		return nil, false
	}
	return slices.Clone(last.types), true
}

// forget removes the known bindings of the endpoint, so that its next report declares them
// again.
func (b *bindings) forget(endpoint string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, endpoint)
}

// refusals collects the endpoints whose hellos and heartbeats are refused.
type refusals struct {
	mu      sync.Mutex
	refused map[string]error
	// unavailable is why some endpoints cannot be authorized now.
	unavailable error
}

func (r *refusals) add(endpoint string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, transport.ErrUnavailable) {
		r.unavailable = err
		return
	}
	if r.refused == nil {
		r.refused = map[string]error{}
	}
	r.refused[endpoint] = err
}
