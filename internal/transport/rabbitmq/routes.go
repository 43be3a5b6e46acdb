package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// routesExpiry is how long a heartbeat is taken to have the bindings that were
// seen before. Another control plane may have changed them since.
const routesExpiry = 10 * time.Minute

// routes keeps the queue and the bindings of each endpoint as its hellos and
// heartbeats ask for.
type routes struct {
	types   []tasker.TaskType
	log     *slog.Logger
	speaker func(ctx context.Context, user, endpoint string) error
	// ready tells agents that their queues are there.
	ready func(ctx context.Context, askers []string)

	mu    sync.Mutex
	bound map[string]bound // by endpoint
}

// bound is what is known of an endpoint's bindings.
type bound struct {
	types []string
	at    time.Time
}

func newRoutes(o HubOptions, ready func(context.Context, []string)) *routes {
	return &routes{types: o.Types, log: o.Log, speaker: o.Authorize, ready: ready, bound: map[string]bound{}}
}

// known says whether a type is configured.
func (r *routes) known(taskType string) bool {
	return slices.ContainsFunc(r.types, func(t tasker.TaskType) bool { return t.Name == taskType })
}

// forget makes the endpoint's next report put its queue and bindings right.
func (r *routes) forget(endpoint string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.bound, endpoint)
}

// plan is what an endpoint's queue is to be bound to, and unbound from.
type plan struct {
	endpoint     string
	user         string // who asks for it
	asker        string // the address of an agent that wants to know when it is done; or empty
	serves, drop []string
	// bound: it is taken to be so; only that the queue is there has to be seen.
	bound bool
}

// planners is how many channels a batch of plans is spread over.
const planners = 4

// said is a report and the RabbitMQ user who vouches for it.
type said struct {
	tasker.Report
	user string
	// asker is where a hello wants to be told that its queue is there; or empty.
	asker string
}

// verdict is for which endpoints the hellos and heartbeats are not taken.
type verdict struct {
	mu      sync.Mutex
	refused map[string]error
	// away is why it cannot be told now for some.
	away error
}

func (v *verdict) refuse(endpoint string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if errors.Is(err, transport.ErrUnavailable) {
		v.away = err
		return
	}
	if v.refused == nil {
		v.refused = map[string]error{}
	}
	v.refused[endpoint] = err
}

// follow puts queues and bindings right as far as the reports ask for it, and
// returns the endpoints for which that was refused, and why: by the broker, or
// because they may not speak (errSpeaker). An error with ErrUnavailable in it says
// that the same is to be tried again; any other, that the session is of no more
// use.
func (r *routes) follow(ctx context.Context, s *session, reports []said) (map[string]error, error) {
	plans := r.plan(reports)
	var v verdict
	var work sync.WaitGroup
	for part := range slices.Chunk(plans, max(1, (len(plans)+planners-1)/planners)) {
		work.Go(func() {
			done := part
			if r.carryOut(s, part) != nil {
				done = r.oneByOne(s, part, &v)
			}
			var askers []string
			for _, p := range done {
				if err := r.allow(ctx, s, p); err != nil {
					v.refuse(p.endpoint, err)
				} else if p.asker != "" {
					askers = append(askers, p.asker)
				}
			}
			if len(askers) > 0 {
				r.ready(ctx, askers)
			}
		})
	}
	work.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case s.conn.IsClosed():
		return nil, errors.New("the connection was lost while queues were set up")
	}
	return v.refused, v.away
}

// oneByOne carries out plans of which one is at fault: the others must not suffer.
// It returns those that were carried out.
func (r *routes) oneByOne(s *session, plans []plan, v *verdict) (done []plan) {
	for _, p := range plans {
		p.bound = false
		err := r.carryOut(s, []plan{p})
		switch {
		case err == nil:
			done = append(done, p)
		case !s.conn.IsClosed():
			r.log.Error("queue of an endpoint cannot be set up, so its hello is not taken", "endpoint", p.endpoint, "queue", Queue(p.endpoint), "error", err)
			v.refuse(p.endpoint, err)
		}
	}
	return done
}

// allow says why what has been carried out may not be, and undoes it then.
func (r *routes) allow(ctx context.Context, s *session, p plan) error {
	if r.speaker == nil {
		return nil
	}
	err := r.speaker(ctx, p.user, p.endpoint)
	if err == nil {
		return nil
	}
	r.forget(p.endpoint)
	if ctx.Err() != nil || errors.Is(err, transport.ErrUnavailable) {
		return err
	}
	r.log.Warn("endpoint may not speak, so its hello is not taken", "endpoint", p.endpoint, "user", p.user, "error", err)
	ch, failure := s.conn.Channel()
	if failure == nil {
		defer s.dismiss(ch)
		_, failure = ch.QueueDelete(Queue(p.endpoint), false, false, false)
	}
	if failure != nil && !s.conn.IsClosed() {
		r.log.Error("queue of an endpoint that may not speak cannot be deleted", "queue", Queue(p.endpoint), "error", failure)
	}
	return fmt.Errorf("%w: %w", errSpeaker, err)
}

// plan says what the reports ask for: the last word of each endpoint counts. A
// hello always asks, because the queue may have been deleted; but to bind it anew
// would cost the broker a transaction for each binding, of each agent that comes
// back after an outage.
func (r *routes) plan(reports []said) []plan {
	var plans []plan
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
		p := plan{endpoint: report.Endpoint, user: report.user, asker: report.asker, serves: []string{}}
		for _, t := range r.types {
			if t.ServedBy(presence) {
				p.serves = append(p.serves, t.Name)
			}
		}
		i, again := index[p.endpoint]
		was, known := r.last(p.endpoint)
		p.bound = known && slices.Equal(was, p.serves)
		switch {
		case report.Heartbeat != nil && !again && p.bound:
			continue
		case !known:
			for _, t := range r.types {
				was = append(was, t.Name)
			}
		}
		p.drop = slices.DeleteFunc(was, func(t string) bool { return slices.Contains(p.serves, t) })
		if again {
			plans[i] = p
			continue
		}
		index[p.endpoint] = len(plans)
		plans = append(plans, p)
	}
	return plans
}

// last returns a copy of the types to which the endpoint was bound, as far as
// that is known and not too old.
func (r *routes) last(endpoint string) ([]string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, ok := r.bound[endpoint]
	if !ok || time.Since(was.at) >= routesExpiry {
		return nil, false
	}
	return slices.Clone(was.types), true
}
