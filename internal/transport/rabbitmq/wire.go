package rabbitmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

const contentType = "application/json"

// What agents say of themselves is of no use when it is old: hellos are
// repeated until they are answered, and heartbeats come all the time. Expiring,
// they do not heap up in the broker while no control plane takes them.
const (
	helloExpiry     = 2 * time.Minute
	heartbeatExpiry = time.Minute
)

// The reasons for which a received message is not accepted, as in the metrics.
var (
	errUndecodable = errors.New("undecodable")
	errVersion     = errors.New("version")
	errSpeaker     = errors.New("speaker")
)

// encode writes a message of the wire as a persistent publishing.
func encode(kind string, msg any) (amqp.Publishing, error) {
	body, err := json.Marshal(msg)
	if err != nil {
		return amqp.Publishing{}, fmt.Errorf("write %s: %w", kind, err)
	}
	return amqp.Publishing{ContentType: contentType, Type: kind, DeliveryMode: amqp.Persistent, Body: body}, nil
}

// expiration says in the broker's terms (milliseconds) how long a message keeps.
// An expired one is given the shortest time instead of none at all, which would
// be a different thing to the broker: drop unless it can be delivered at once.
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

func decodeOrder(body []byte) (tasker.Order, error) {
	var o tasker.Order
	if err := json.Unmarshal(body, &o); err != nil {
		return o, fmt.Errorf("%w: %w", errUndecodable, err)
	}
	if o.Version > tasker.MaxWireVersion {
		return o, tooNew(o.Version)
	}
	if o.Assignment == nil && o.Cancel == nil && o.Welcome == nil {
		return o, fmt.Errorf("%w: an order without content", errUndecodable)
	}
	return o, nil
}

func decodeReport(body []byte) (tasker.Report, error) {
	var r tasker.Report
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("%w: %w", errUndecodable, err)
	}
	if r.Version > tasker.MaxWireVersion {
		return r, tooNew(r.Version)
	}
	if kindOf(r) == "" {
		return r, fmt.Errorf("%w: a report without content", errUndecodable)
	}
	return r, nil
}

func tooNew(version int) error {
	return fmt.Errorf("%w %d is higher than %d, the one understood here", errVersion, version, tasker.MaxWireVersion)
}
