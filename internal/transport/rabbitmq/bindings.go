package rabbitmq

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// carryOut makes the queues, binds them to what their endpoints serve, and then
// unbinds them from the rest; of those that are bound it only sees that they are
// there. What can be is sent without waiting for each
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
		if !p.bound {
			r.bound[p.endpoint] = bound{types: p.serves, at: time.Now()}
		}
	}
	return nil
}

func bind(ch *amqp.Channel, p plan) error {
	queue := Queue(p.endpoint)
	if p.bound {
		if _, err := ch.QueueDeclarePassive(queue, true, false, false, true, nil); err != nil {
			return declareError("queue", queue, err)
		}
		return nil
	}
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}
	if _, err := ch.QueueDeclare(queue, true, false, false, true, args); err != nil {
		return declareError("queue", queue, err)
	}
	keys := []string{tasker.AllEndpoints, p.endpoint}
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
