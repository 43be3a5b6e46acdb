package rabbitmq

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// routesExpiry is how long a heartbeat is taken to have the bindings that were
// seen before. Another control plane may have changed them since.
const routesExpiry = 10 * time.Minute

// routes keeps the queue and the bindings of each endpoint as its hellos and
// heartbeats ask for.
type routes struct {
	types []tasker.TaskType
	log   *slog.Logger

	mu    sync.Mutex
	bound map[string]bound // by endpoint
}

// bound is what is known of an endpoint's bindings.
type bound struct {
	types []string
	at    time.Time
}

func newRoutes(types []tasker.TaskType, log *slog.Logger) *routes {
	return &routes{types: types, log: log, bound: map[string]bound{}}
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
	serves, drop []string
}

// planners is how many channels a batch of plans is spread over.
const planners = 4

// follow puts queues and bindings right as far as the reports ask for it, and
// returns the endpoints for which the broker refused that. An error means that
// the session is of no more use.
func (r *routes) follow(s *session, reports []tasker.Report) (refused map[string]bool, err error) {
	plans := r.plan(reports)
	var mu sync.Mutex
	var work sync.WaitGroup
	for part := range slices.Chunk(plans, max(1, (len(plans)+planners-1)/planners)) {
		work.Go(func() {
			if r.carryOut(s, part) == nil {
				return
			}
			// One of them is at fault; the others must not suffer.
			for _, p := range part {
				if err := r.carryOut(s, []plan{p}); err != nil && !s.conn.IsClosed() {
					r.log.Error("queue of an endpoint cannot be set up, so its hello is not taken", "endpoint", p.endpoint, "queue", Queue(p.endpoint), "error", err)
					mu.Lock()
					refused = add(refused, p.endpoint)
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	if s.conn.IsClosed() {
		return nil, errors.New("the connection was lost while queues were set up")
	}
	return refused, nil
}

func add(set map[string]bool, name string) map[string]bool {
	if set == nil {
		set = map[string]bool{}
	}
	set[name] = true
	return set
}

// plan says what the reports ask for: the last word of each endpoint counts. A
// hello always asks, because the queue may have been deleted.
func (r *routes) plan(reports []tasker.Report) []plan {
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
		p := plan{endpoint: report.Endpoint, serves: []string{}}
		for _, t := range r.types {
			if t.ServedBy(presence) {
				p.serves = append(p.serves, t.Name)
			}
		}
		i, again := index[p.endpoint]
		was, known := r.last(p.endpoint)
		switch {
		case report.Heartbeat != nil && !again && known && slices.Equal(was, p.serves):
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

// carryOut makes the queues, binds them to what their endpoints serve, and then
// unbinds them from the rest. What can be is sent without waiting for each
// answer: a refusal closes the channel, which the last call finds out.
func (r *routes) carryOut(s *session, plans []plan) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel to declare: %w", err)
	}
	defer s.dismiss(ch)
	for _, p := range plans {
		if err := bind(ch, p); err != nil {
			r.forget(p.endpoint)
			return err
		}
	}
	if _, err := ch.QueueDeclarePassive(Queue(plans[len(plans)-1].endpoint), true, false, false, false, nil); err != nil {
		for _, p := range plans {
			r.forget(p.endpoint)
		}
		return declareError("queue", Queue(plans[len(plans)-1].endpoint), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		r.bound[p.endpoint] = bound{types: p.serves, at: time.Now()}
	}
	return nil
}

func bind(ch *amqp.Channel, p plan) error {
	queue := Queue(p.endpoint)
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}
	if _, err := ch.QueueDeclare(queue, true, false, false, true, args); err != nil {
		return declareError("queue", queue, err)
	}
	keys := []string{tasker.Everyone, p.endpoint}
	for _, t := range p.serves {
		for _, key := range keys {
			if err := ch.QueueBind(queue, key, Exchange(t), true, nil); err != nil {
				return fmt.Errorf("bind %s to %s: %w", queue, Exchange(t), err)
			}
		}
	}
	for _, t := range p.drop {
		for _, key := range keys {
			if err := ch.QueueUnbind(queue, key, Exchange(t), nil); err != nil {
				return fmt.Errorf("unbind %s from %s: %w", queue, Exchange(t), err)
			}
		}
	}
	return nil
}
