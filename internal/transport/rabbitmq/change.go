package rabbitmq

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// change is the change of an endpoint's queue and its bindings.
type change struct {
	endpoint string
	// user is the RabbitMQ user that requires the change.
	user string
	// replyTo is the address of an agent that waits for the change; it may be empty.
	replyTo string
	// serves are the types to bind, unbind those to unbind.
	serves, unbind []string
	// unchanged is true if the bindings are known to exist. Only the existence of the
	// queue must be checked.
	unchanged bool
}

// apply sends the methods of the change.
func (c change) apply(ch *amqp.Channel) error {
	queue := Queue(c.endpoint)
	if c.unchanged {
		if _, err := ch.QueueDeclarePassive(queue, true, false, false, true, nil); err != nil {
			return declareError("queue", queue, err)
		}
		return nil
	}
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}
	if _, err := ch.QueueDeclare(queue, true, false, false, true, args); err != nil {
		return declareError("queue", queue, err)
	}
	keys := []string{tasker.AllEndpoints, c.endpoint}
	for _, t := range c.serves {
		for _, key := range keys {
			if err := ch.QueueBind(queue, key, Exchange(t), true, nil); err != nil {
				return fmt.Errorf("bind %s to %s: %w", queue, Exchange(t), err)
			}
		}
	}
	for _, t := range c.unbind {
		for _, key := range keys {
			if err := ch.QueueUnbind(queue, key, Exchange(t), nil); err != nil {
				return fmt.Errorf("unbind %s from %s: %w", queue, Exchange(t), err)
			}
		}
	}
	return nil
}
