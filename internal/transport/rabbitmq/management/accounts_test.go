package management_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestCreateAndDeleteAccount(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, h, name := newAccounts(t, b), newHub(t, b), endpoint()
	uri := createAccount(t, a, name, "first-secret")
	first := newAgent(t, uri, name)
	wait.For(t, "an order to pass", func() bool { return h.Send(t.Context(), assignment(name, "one")) == nil })
	wait.For(t, "its report", func() bool { return h.has(name + " one") })
	// CreateAccount, repeated, has no effect.
	session := dial(t, uri)
	if server, err := a.CreateAccount(t.Context(), name, "first-secret"); err != nil || server != "amqp://"+b.Address+"/"+b.Vhost {
		t.Errorf("CreateAccount, repeated, returned %q, %v", server, err)
	}
	if session.IsClosed() {
		t.Error("CreateAccount, repeated, has closed a connection")
	}

	if err := a.DeleteAccount(t.Context(), name); err != nil {
		t.Fatalf("DeleteAccount returned %v", err)
	}
	if err := h.Send(t.Context(), assignment(name, "two")); !errors.Is(err, transport.ErrUnroutable) {
		t.Errorf("Send to a deleted endpoint returned %v, want ErrUnroutable", err)
	}
	wait.For(t, "the connection to be closed", session.IsClosed)
	wait.For(t, "the agent to be unauthorized", func() bool { return errors.Is(first.state(), transport.ErrUnauthorized) })
	if err := first.Send(t.Context(), update(name, "after")); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, transport.ErrUnauthorized) {
		t.Errorf("Send of the agent without an account returned %v, want ErrUnavailable and ErrUnauthorized", err)
	}
	if err := a.DeleteAccount(t.Context(), name); err != nil {
		t.Errorf("DeleteAccount, repeated, returned %v", err)
	}
	if n := b.Messages(t, rabbitmq.Queue(name)); n != -1 {
		t.Errorf("its queue exists, with %d messages", n)
	}

	second := newAgent(t, createAccount(t, a, name, "second-secret"), name)
	wait.For(t, "an order to pass to the agent of the new account", func() bool {
		return h.Send(t.Context(), assignment(name, "three")) == nil
	})
	wait.For(t, "its report", func() bool { return h.has(name + " three") })
	wait.For(t, "the second agent to be connected", func() bool { return second.state() == nil })
	if !errors.Is(first.state(), transport.ErrUnauthorized) {
		t.Errorf("the agent of the deleted account has the state %v, want ErrUnauthorized", first.state())
	}
}

// dial connects as an agent's user.
func dial(t *testing.T, uri string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.Dial(uri)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestNewSecretReplacesOldAgent(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	old := createAccount(t, a, name, "first-secret")
	conn := dial(t, old)
	b.Do(t, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(rabbitmq.Queue(name), true, false, false, false, nil)
		return err
	})
	dial(t, createAccount(t, a, name, "second-secret"))
	wait.For(t, "the first connection to be closed", conn.IsClosed)
	if n := b.Messages(t, rabbitmq.Queue(name)); n != -1 {
		t.Error("the queue of the first agent exists")
	}
	if _, err := amqp.Dial(old); !errors.Is(err, amqp.ErrCredentials) {
		t.Errorf("the first secret: %v, want ErrCredentials", err)
	}
}

func TestAgentPermissions(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	other := strings.Replace(name, ".", "x", 1) // what the dot would match
	conn := dial(t, createAccount(t, a, name, "first-secret"))
	for _, queue := range []string{name, other} {
		b.Do(t, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(rabbitmq.Queue(queue), true, false, false, false, nil)
			return err
		})
	}
	publish := func(exchange, key string, p amqp.Publishing) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			if err := ch.Confirm(false); err != nil {
				return err
			}
			closes := ch.NotifyClose(make(chan *amqp.Error, 1))
			c, err := ch.PublishWithDeferredConfirm(exchange, key, false, false, p)
			if err != nil {
				return err
			}
			if !c.Wait() {
				return <-closes
			}
			return nil
		}
	}
	read := func(queue string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.Consume(queue, "", false, false, false, false, nil)
			return err
		}
	}
	own := rabbitmq.Queue(name)
	for what, tt := range map[string]struct {
		do   func(*amqp.Channel) error
		code int
	}{
		"report":                    {publish(rabbitmq.ReportsExchange, name, amqp.Publishing{UserId: name}), 0},
		"report for another":        {publish(rabbitmq.ReportsExchange, other, amqp.Publishing{}), amqp.AccessRefused},
		"report for a longer name":  {publish(rabbitmq.ReportsExchange, "x"+name, amqp.Publishing{}), amqp.AccessRefused},
		"report as another user":    {publish(rabbitmq.ReportsExchange, name, amqp.Publishing{UserId: other}), amqp.PreconditionFailed},
		"order to itself":           {publish("", own, amqp.Publishing{}), amqp.AccessRefused},
		"order to another":          {publish("", rabbitmq.Queue(other), amqp.Publishing{}), amqp.AccessRefused},
		"order to all":              {publish(rabbitmq.Exchange("ping"), tasker.AllEndpoints, amqp.Publishing{}), amqp.AccessRefused},
		"read its queue":            {read(own), 0},
		"read another's queue":      {read(rabbitmq.Queue(other)), amqp.AccessRefused},
		"read the reports":          {read(rabbitmq.ReportsQueue), amqp.AccessRefused},
		"read the rejected reports": {read(rabbitmq.RejectedQueue), amqp.AccessRefused},
		"get from another's queue": {func(ch *amqp.Channel) error {
			_, _, err := ch.Get(rabbitmq.Queue(other), false)
			return err
		}, amqp.AccessRefused},
		"purge another's queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueuePurge(rabbitmq.Queue(other), false)
			return err
		}, amqp.AccessRefused},
		"declare its queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(own, true, false, false, false, nil)
			return err
		}, amqp.AccessRefused},
		"declare a queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("", false, true, true, false, nil)
			return err
		}, amqp.AccessRefused},
		"declare an exchange": {func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare("mine", "topic", false, false, false, false, nil)
		}, amqp.AccessRefused},
		"bind its queue to the reports": {func(ch *amqp.Channel) error {
			return ch.QueueBind(own, "#", rabbitmq.ReportsExchange, false, nil)
		}, amqp.AccessRefused},
		"delete its queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(own, false, false, false)
			return err
		}, amqp.AccessRefused},
		"delete another's queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(rabbitmq.Queue(other), false, false, false)
			return err
		}, amqp.AccessRefused},
		"delete the exchange": {func(ch *amqp.Channel) error {
			return ch.ExchangeDelete(rabbitmq.ReportsExchange, false, false)
		}, amqp.AccessRefused},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			err = tt.do(ch)
			var refused *amqp.Error
			switch {
			case tt.code == 0 && err != nil:
				t.Errorf("refused: %v", err)
			case tt.code != 0 && (!errors.As(err, &refused) || refused.Code != tt.code):
				t.Errorf("got %v, want code %d", err, tt.code)
			}
		})
	}
	t.Run("use the management API", func(t *testing.T) {
		t.Parallel()
		client, err := management.NewClient(b.APIURL, name, "first-secret")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.CloseIdle)
		if err := client.Call(t.Context(), http.MethodGet, nil, nil, "overview"); err == nil {
			t.Error("the agent may use the management API")
		}
	})
}
