package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// The names in the broker.
const (
	// ReportsExchange takes every report, by the name of the endpoint that speaks.
	ReportsExchange = "tasker.reports"
	// ReportsQueue is where the control planes take the reports from.
	ReportsQueue = "reports"
	// SetAsideQueue keeps the newest reports that no control plane could accept.
	SetAsideQueue = "reports.undecodable"
)

// setAsideLimit bounds SetAsideQueue, in messages.
const setAsideLimit = 10_000

// Exchange is the name of a task type's exchange.
func Exchange(taskType string) string { return "tasker." + taskType }

// Queue is the name of an endpoint's queue.
func Queue(endpoint string) string { return "endpoint." + endpoint }

// reportsArgs are the arguments of ReportsQueue. Its delivery limit is as good
// as off: a broker that has one by default (RabbitMQ 4: 20) would drop reports
// after so many restarts of control planes, and the -1 that stands for none is
// refused by older ones.
func reportsArgs() amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:           amqp.QueueTypeQuorum,
		"x-delivery-limit":          int64(math.MaxInt32),
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": SetAsideQueue,
	}
}

// Declare connects once, and declares what a hub and the agents need before the
// first hello: the exchanges and the queues of reports. It destroys nothing.
func Declare(ctx context.Context, uri string, types []tasker.TaskType) error {
	at, err := parseURI(uri)
	if err != nil {
		return err
	}
	s, err := dial(ctx, at, "tasker-controlplane initialize")
	if err != nil {
		return err
	}
	defer s.close()
	return declare(s, types)
}

// declare makes what is missing. It uses a channel of its own, because an error
// closes the channel.
func declare(s *session, types []tasker.TaskType) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	defer ch.Close() //nolint:errcheck // closed by an error already, or with the connection
	for _, t := range types {
		if err := ch.ExchangeDeclare(Exchange(t.Name), amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
			return declareError("exchange", Exchange(t.Name), err)
		}
	}
	if err := ch.ExchangeDeclare(ReportsExchange, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
		return declareError("exchange", ReportsExchange, err)
	}
	setAside := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: int64(setAsideLimit)}
	if _, err := ch.QueueDeclare(SetAsideQueue, true, false, false, false, setAside); err != nil {
		return declareError("queue", SetAsideQueue, err)
	}
	if _, err := ch.QueueDeclare(ReportsQueue, true, false, false, false, reportsArgs()); err != nil {
		return declareError("queue", ReportsQueue, err)
	}
	if err := ch.QueueBind(ReportsQueue, "#", ReportsExchange, false, nil); err != nil {
		return declareError("queue", ReportsQueue, err)
	}
	return nil
}

func declareError(kind, name string, err error) error {
	var refused *amqp.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case amqp.PreconditionFailed:
			return fmt.Errorf("%s %s exists with other properties; delete it if it is not in use, it is made again: %w", kind, name, err)
		case amqp.AccessRefused:
			return fmt.Errorf("declare %s %s: the user needs the permission to configure, write and read in this vhost; tasker-controlplane initialize --rabbitmq grants it: %w", kind, name, err)
		}
	}
	return fmt.Errorf("declare %s %s: %w", kind, name, err)
}
