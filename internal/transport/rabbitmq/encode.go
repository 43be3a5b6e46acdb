package rabbitmq

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

const contentType = "application/json"

// Hellos and heartbeats expire, so that they do not accumulate in the broker while no
// control plane runs. Old ones are useless: agents repeat a hello until they
// receive a welcome, and send heartbeats regularly.
const (
	helloExpiry     = 2 * time.Minute
	heartbeatExpiry = time.Minute
)

// encode encodes a message as a persistent publishing.
func encode(kind string, msg any) (amqp.Publishing, error) {
	body, err := json.Marshal(msg)
	if err != nil {
		return amqp.Publishing{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	return amqp.Publishing{ContentType: contentType, Type: kind, DeliveryMode: amqp.Persistent, Body: body}, nil
}

// expiration formats the remaining lifetime of a message for the broker, in milliseconds.
// The minimum is 1, because 0 means that the broker drops the message unless it can deliver
// it immediately.
func expiration(left time.Duration) string {
	return strconv.FormatInt(max(1, left.Milliseconds()), 10)
}

func encodeOrder(o tasker.Order, now time.Time) (amqp.Publishing, error) {
	kind := "assignment"
	switch {
	case o.Cancel != nil:
		kind = "cancel"
	case o.Welcome != nil:
		kind = "welcome"
	}
	p, err := encode(kind, o)
	if !o.Expires.IsZero() {
		p.Expiration = expiration(o.Expires.Sub(now))
	}
	return p, err
}

func encodeReport(r tasker.Report) (amqp.Publishing, error) {
	p, err := encode(kindOf(r), r)
	switch {
	case r.Hello != nil:
		p.Expiration = expiration(helloExpiry)
	case r.Heartbeat != nil:
		p.Expiration = expiration(heartbeatExpiry)
	}
	return p, err
}

func kindOf(r tasker.Report) string {
	switch {
	case r.Hello != nil:
		return "hello"
	case r.Heartbeat != nil:
		return "heartbeat"
	case r.Goodbye != nil:
		return "goodbye"
	case r.Update != nil:
		return "update"
	}
	return ""
}
