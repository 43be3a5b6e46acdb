package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// The names of the exchange and the queues of reports.
const (
	// ReportsExchange receives every report, with the name of the endpoint as routing key.
	ReportsExchange = "tasker.reports"
	// ReportsQueue is the queue from which the control planes consume reports.
	ReportsQueue = "reports"
	// RejectedQueue keeps the newest reports that a control plane has rejected.
	RejectedQueue = "reports.undecodable"
)

// The limits of the queues of reports. The sizes, in bytes, are policies that the management
// package sets, because the arguments of a queue cannot change. While ReportsQueue is full,
// the broker refuses reports, and the agents keep them.
const (
	maxRejected      = 10_000 // messages
	MaxRejectedBytes = 64 << 20
	MaxReportsBytes  = 256 << 20
)

// Exchange returns the name of the exchange of a task type.
func Exchange(taskType string) string { return "tasker." + taskType }

// Queue returns the name of the queue of an endpoint.
func Queue(endpoint string) string { return "endpoint." + endpoint }

// reportsArgs returns the arguments of ReportsQueue. The delivery limit is practically
// unlimited: with the default of RabbitMQ 4 (20), the broker would drop reports after 20
// restarts of control planes. Older brokers refuse -1, which means no limit.
func reportsArgs() amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:           amqp.QueueTypeQuorum,
		"x-delivery-limit":          int64(math.MaxInt32),
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": RejectedQueue,
	}
}

// Declare connects once and declares the exchanges and the queues of reports, which a hub
// and the agents need before the first hello. It deletes nothing.
func Declare(ctx context.Context, uri string, types []tasker.TaskType) error {
	broker, err := parseURI(uri)
	if err != nil {
		return err
	}
	s, err := dial(ctx, broker, "tasker-controlplane initialize", nil)
	if err != nil {
		return err
	}
	defer s.close()
	return declare(s, types)
}

// declare declares missing exchanges and queues. It opens its own channel, because an error
// closes the channel.
func declare(s *session, types []tasker.TaskType) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	defer ch.Close() //nolint:errcheck // an error or the end of the connection has closed it
	for _, t := range types {
		if err := ch.ExchangeDeclare(Exchange(t.Name), amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
			return declareError("exchange", Exchange(t.Name), err)
		}
	}
	if err := ch.ExchangeDeclare(ReportsExchange, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
		return declareError("exchange", ReportsExchange, err)
	}
	rejected := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: int64(maxRejected)}
	if _, err := ch.QueueDeclare(RejectedQueue, true, false, false, false, rejected); err != nil {
		return declareError("queue", RejectedQueue, err)
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
			return fmt.Errorf("%s %s exists with other properties; if it is not in use, delete it, and it is declared again: %w", kind, name, err)
		case amqp.AccessRefused:
			return fmt.Errorf("declare %s %s: the user needs the permission to configure, write and read in this vhost; tasker-controlplane initialize --rabbitmq grants it: %w", kind, name, err)
		}
	}
	return fmt.Errorf("declare %s %s: %w", kind, name, err)
}
