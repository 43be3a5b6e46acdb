package rabbitmq_test

import (
	"errors"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, func(t *testing.T) transporttest.Fabric {
		b := rabbitmqtest.New(t)
		if err := rabbitmq.Declare(t.Context(), b.URI, types()); err != nil {
			t.Fatal(err)
		}
		agents, hub := transporttest.NewProxy(t, b.Address), transporttest.NewProxy(t, b.Address)
		return transporttest.Fabric{
			NewHub: func(t testing.TB, types []tasker.TaskType) transport.Hub {
				return newHub(t, b.URIAt(hub.Address, b.Username, b.Password), func(o *rabbitmq.HubOptions) { o.Types = types })
			},
			NewLink: func(t testing.TB, endpoint, instance string, observer transport.Observer) transport.Link {
				return newLink(t, b.URIAt(agents.Address, b.Username, b.Password), endpoint, func(o *rabbitmq.LinkOptions) {
					o.Instance, o.Observer = instance, observer
				})
			},
			AgentProxy: agents, HubProxy: hub,
			Queues: true,
			PutReport: func(t testing.TB, endpoint string, raw []byte) {
				put(t, b, rabbitmq.ReportsExchange, endpoint, amqp.Publishing{UserId: b.Username, Body: raw})
			},
			PutOrder: func(t testing.TB, endpoint string, raw []byte) {
				put(t, b, "", rabbitmq.Queue(endpoint), amqp.Publishing{Body: raw})
			},
		}
	})
}

// put publishes and waits for the confirm.
func put(t testing.TB, b *rabbitmqtest.Broker, exchange, key string, p amqp.Publishing) {
	t.Helper()
	b.Do(t, func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		c, err := ch.PublishWithDeferredConfirm(exchange, key, true, false, p)
		if err == nil && !c.Wait() {
			err = errors.New("not confirmed")
		}
		return err
	})
}
