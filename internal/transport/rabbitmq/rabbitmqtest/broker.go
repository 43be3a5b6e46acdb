// Package rabbitmqtest gives a test a RabbitMQ vhost of its own on a real
// broker, and ways to make it fail.
package rabbitmqtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// patience is how long is waited for what must come.
const patience = 60 * time.Second

// Broker is a vhost of the test's own.
type Broker struct {
	// URI is that of the vhost, for the superuser.
	URI   string
	Vhost string
	// Address is the host:port of AMQP.
	Address string
	// APIURL, Username and Password are those of the management API.
	APIURL, Username, Password string

	Client *management.Client
}

// New makes a vhost, and deletes it at the end of the test. The broker is the one
// named by TASKER_TEST_RABBITMQ, http://user:password@host:port/api, with AMQP
// on port 5672 beside it unless TASKER_TEST_AMQP says otherwise (host:port).
// Without it the test is skipped; if it does not answer, the test fails.
func New(t testing.TB) *Broker {
	t.Helper()
	at := os.Getenv("TASKER_TEST_RABBITMQ")
	if at == "" {
		t.Skip("TASKER_TEST_RABBITMQ is not set, so nothing is tested on RabbitMQ; make test sets one up")
	}
	u, err := url.Parse(at)
	if err != nil || u.User == nil {
		t.Fatal("TASKER_TEST_RABBITMQ is not valid: write it as http://guest:guest@127.0.0.1:15672/api")
	}
	b := &Broker{Vhost: "tasker-test-" + uuid.NewString(), Username: u.User.Username(), Address: os.Getenv("TASKER_TEST_AMQP")}
	b.Password, _ = u.User.Password()
	if b.Address == "" {
		b.Address = net.JoinHostPort(u.Hostname(), "5672")
	}
	u.User = nil
	b.APIURL = u.String()
	b.URI = b.URIAt(b.Address, b.Username, b.Password)
	if b.Client, err = management.NewClient(b.APIURL, b.Username, b.Password); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer b.Client.CloseIdle()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := b.Client.Call(ctx, http.MethodDelete, nil, nil, "vhosts", b.Vhost)
		if err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Errorf("delete the vhost: %v", err)
		}
	})
	b.call(t, http.MethodPut, struct{}{}, nil, "vhosts", b.Vhost)
	return b
}

// URIAt is the URI of the vhost at another address or for another user.
func (b *Broker) URIAt(address, user, password string) string {
	u := url.URL{Scheme: "amqp", User: url.UserPassword(user, password), Host: address, Path: "/" + b.Vhost}
	return u.String()
}

// AddUser makes a user who may do in the vhost what the three patterns say, and
// deletes it at the end of the test. It returns the URI for this user.
func (b *Broker) AddUser(t testing.TB, name, configure, write, read string) string {
	t.Helper()
	user := b.AddUserWithTag(t, name, "")
	rights := map[string]string{"configure": configure, "write": write, "read": read}
	b.call(t, http.MethodPut, rights, nil, "permissions", b.Vhost, name)
	return b.URIAt(b.Address, user[0], user[1])
}

// AddUserWithTag makes a user without permissions and with a tag of the
// management API, and deletes it at the end of the test. It returns name and
// password.
func (b *Broker) AddUserWithTag(t testing.TB, name, tag string) [2]string {
	t.Helper()
	password := uuid.NewString()
	b.call(t, http.MethodPut, map[string]string{"password": password, "tags": tag}, nil, "users", name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Client.Call(ctx, http.MethodDelete, nil, nil, "users", name); err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Errorf("delete user %s: %v", name, err)
		}
	})
	return [2]string{name, password}
}

// LimitConnections allows the vhost n connections; a negative n is no limit.
func (b *Broker) LimitConnections(t testing.TB, n int) {
	t.Helper()
	b.call(t, http.MethodPut, map[string]int{"value": n}, nil, "vhost-limits", b.Vhost, "max-connections")
}

// Listed waits for the broker to list an open connection with this name
// (connection_name), which takes it some seconds.
func (b *Broker) Listed(t testing.TB, name string) {
	t.Helper()
	b.eventually(t, "a connection named "+name, func() (bool, error) {
		list, err := b.connections(t, name)
		return len(list) > 0, err
	})
}

// Kill closes the open connections with this name, at least one: it waits for the
// broker to list it.
func (b *Broker) Kill(t testing.TB, name string) {
	t.Helper()
	b.eventually(t, "a connection named "+name, func() (bool, error) {
		list, err := b.connections(t, name)
		if err != nil {
			return false, err
		}
		killed := false
		for _, c := range list {
			err := b.Client.Call(t.Context(), http.MethodDelete, nil, nil, "connections", c)
			if err != nil && !errors.Is(err, management.ErrNotFound) {
				return false, err
			}
			killed = killed || err == nil
		}
		return killed, nil
	})
}

// connections are the broker's own names of the connections with this one.
func (b *Broker) connections(t testing.TB, name string) ([]string, error) {
	t.Helper()
	var list []struct {
		Name       string
		Properties struct {
			Name string `json:"connection_name"`
		} `json:"client_properties"`
	}
	err := b.Client.Call(t.Context(), http.MethodGet, nil, &list, "vhosts", b.Vhost, "connections")
	var found []string
	for _, c := range list {
		if c.Properties.Name == name {
			found = append(found, c.Name)
		}
	}
	return found, err
}

// Do opens a channel of its own and does something on it.
func (b *Broker) Do(t testing.TB, what func(*amqp.Channel) error) {
	t.Helper()
	conn, err := amqp.Dial(b.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err == nil {
		err = what(ch)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Messages is the number of messages that wait in the queue, or -1 if there is
// no such queue.
func (b *Broker) Messages(t testing.TB, queue string) int {
	t.Helper()
	n := -1
	b.Do(t, func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		var refused *amqp.Error
		if errors.As(err, &refused) && refused.Code == amqp.NotFound {
			return nil
		}
		n = q.Messages
		return err
	})
	return n
}

// Keys are the routing keys by which the queue is bound to the exchange.
func (b *Broker) Keys(t testing.TB, exchange, queue string) []string {
	t.Helper()
	var list []struct {
		Key string `json:"routing_key"`
	}
	b.call(t, http.MethodGet, nil, &list, "bindings", b.Vhost, "e", exchange, "q", queue)
	keys := make([]string, 0, len(list))
	for _, k := range list {
		keys = append(keys, k.Key)
	}
	return keys
}

// DeleteQueue deletes a queue, whatever is in it.
func (b *Broker) DeleteQueue(t testing.TB, queue string) {
	t.Helper()
	b.Do(t, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(queue, false, false, false)
		return err
	})
}

func (b *Broker) call(t testing.TB, method string, body, answer any, segments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Client.Call(ctx, method, body, answer, segments...); err != nil {
		t.Fatalf("%s %v: %v", method, segments, err)
	}
}

func (b *Broker) eventually(t testing.TB, what string, ok func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		done, err := ok()
		if err != nil {
			t.Fatal(fmt.Errorf("wait for %s: %w", what, err))
		}
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}
