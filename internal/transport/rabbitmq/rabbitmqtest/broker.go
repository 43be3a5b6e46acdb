// Package rabbitmqtest provides tests with their own vhost on a real RabbitMQ broker. It can
// also inject faults.
package rabbitmqtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// timeout is how long a test waits for an expected event.
const timeout = 60 * time.Second

// Broker is a vhost of one test.
type Broker struct {
	// URI is the URI of the vhost, with the administrator as user.
	URI   string
	Vhost string
	// Address is the host:port of AMQP.
	Address string
	// APIURL is the URL of the management API, with the administrator's Username and Password.
	APIURL, Username, Password string

	Client *management.Client
}

// New creates a vhost and deletes it at the end of the test. TASKER_TEST_RABBITMQ is the
// management API of the broker, http://user:password@host:port/api. TASKER_TEST_AMQP is its
// AMQP address, host:port; the default is the port of the broker's AMQP listener on the same
// host. New skips the test if TASKER_TEST_RABBITMQ is not set, and fails it if the broker
// does not respond or cannot serve the tests.
func New(t testing.TB) *Broker {
	t.Helper()
	uri := os.Getenv("TASKER_TEST_RABBITMQ")
	if uri == "" {
		t.Skip("TASKER_TEST_RABBITMQ is not set, so tests on RabbitMQ are skipped; make test starts a broker")
	}
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		t.Fatal("TASKER_TEST_RABBITMQ is not valid: write it as http://guest:guest@127.0.0.1:15672/api")
	}
	b := &Broker{Vhost: "tasker-test-" + uuid.NewString(), Username: u.User.Username(), Address: os.Getenv("TASKER_TEST_AMQP")}
	b.Password, _ = u.User.Password()
	host := u.Hostname()
	u.User = nil
	b.APIURL = u.String()
	if b.Client, err = management.NewClient(b.APIURL, b.Username, b.Password); err != nil {
		t.Fatal(err)
	}
	overview := b.overview(t)
	if b.Address == "" {
		b.Address = net.JoinHostPort(host, overview.amqpPort(t))
	}
	b.URI = b.URIAt(b.Address, b.Username, b.Password)
	t.Cleanup(func() {
		defer b.Client.CloseIdle()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		b.deleteAgents(ctx, t)
		err := b.Client.Call(ctx, http.MethodDelete, nil, nil, "vhosts", b.Vhost)
		if err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Errorf("delete the vhost: %v", err)
		}
	})
	b.call(t, http.MethodPut, struct{}{}, nil, "vhosts", b.Vhost)
	return b
}

// overview is the part of the broker's overview that the tests depend on.
type overview struct {
	DisableStats bool `json:"disable_stats"`
	Listeners    []struct {
		Protocol string
		Port     int
	}
}

func (b *Broker) overview(t testing.TB) overview {
	t.Helper()
	var o overview
	b.call(t, http.MethodGet, nil, &o, "overview")
	if o.DisableStats {
		t.Fatal("the broker of TASKER_TEST_RABBITMQ collects no metrics, so it lists no connections by name: permit management_metrics_collection, and do not set management_agent.disable_metrics_collector")
	}
	return o
}

// amqpPort returns the port of the listener without TLS.
func (o overview) amqpPort(t testing.TB) string {
	t.Helper()
	for _, l := range o.Listeners {
		if l.Protocol == "amqp" {
			return strconv.Itoa(l.Port)
		}
	}
	t.Fatal("the broker of TASKER_TEST_RABBITMQ has no AMQP listener without TLS; set TASKER_TEST_AMQP to host:port")
	return ""
}

// URIAt returns the URI of the vhost at an address and for a user.
func (b *Broker) URIAt(address, user, password string) string {
	u := url.URL{Scheme: "amqp", User: url.UserPassword(user, password), Host: address, Path: "/" + b.Vhost}
	return u.String()
}

// AddUser creates a user with these permissions in the vhost, and deletes it at the end of
// the test. It returns the URI for this user.
func (b *Broker) AddUser(t testing.TB, name, configure, write, read string) string {
	t.Helper()
	user := b.AddUserWithTag(t, name, "")
	rights := map[string]string{"configure": configure, "write": write, "read": read}
	b.call(t, http.MethodPut, rights, nil, "permissions", b.Vhost, name)
	return b.URIAt(b.Address, user[0], user[1])
}

// AddUserWithTag creates a user without permissions and with a tag of the management API. It
// deletes the user at the end of the test and returns its name and password.
func (b *Broker) AddUserWithTag(t testing.TB, name, tag string) [2]string {
	t.Helper()
	password := uuid.NewString()
	b.call(t, http.MethodPut, map[string]string{"password": password, "tags": tag}, nil, "users", name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := b.Client.Call(ctx, http.MethodDelete, nil, nil, "users", name); err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Errorf("delete user %s: %v", name, err)
		}
	})
	return [2]string{name, password}
}

// LimitConnections limits the vhost to n connections; a negative n means no limit.
func (b *Broker) LimitConnections(t testing.TB, n int) {
	t.Helper()
	b.call(t, http.MethodPut, map[string]int{"value": n}, nil, "vhost-limits", b.Vhost, "max-connections")
}

// AwaitConnection waits until the broker lists an open connection with this name
// (connection_name). The broker lists a new connection only after some seconds.
func (b *Broker) AwaitConnection(t testing.TB, name string) {
	t.Helper()
	b.eventually(t, "a connection named "+name, func() (bool, error) {
		list, err := b.connections(t, name)
		return len(list) > 0, err
	})
}

// Kill closes the open connections with this name. It waits until the broker lists at least
// one.
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

// connections returns the broker's names of the connections with this connection_name.
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

// Do calls operation with a new channel.
func (b *Broker) Do(t testing.TB, operation func(*amqp.Channel) error) {
	t.Helper()
	conn, err := amqp.Dial(b.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err == nil {
		err = operation(ch)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Messages returns the number of messages in the queue, or -1 if the queue does not exist.
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

// Keys returns the routing keys of the bindings between the exchange and the queue.
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

// DeleteQueue deletes a queue with its messages.
func (b *Broker) DeleteQueue(t testing.TB, queue string) {
	t.Helper()
	b.Do(t, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(queue, false, false, false)
		return err
	})
}

func (b *Broker) call(t testing.TB, method string, body, result any, segments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := b.Client.Call(ctx, method, body, result, segments...); err != nil {
		t.Fatalf("%s %v: %v", method, segments, err)
	}
}

func (b *Broker) eventually(t testing.TB, what string, ok func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(timeout)
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
		case <-deadline:
			t.Fatalf("waited %s in vain for %s", timeout, what)
		}
	}
}
