package management

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// agentTag marks the users that are tasker's to change and to delete. It gives no
// right.
const agentTag = "tasker-agent"

// ErrForeignUser: RabbitMQ has a user of the endpoint's name that is not this
// control plane's to touch; repeating the call is of no use.
var ErrForeignUser = errors.New("the RabbitMQ user of this name was not made for an agent of this control plane")

// AccountOptions say where the agents' accounts are kept.
type AccountOptions struct {
	// APIURL, Username and Password are those of the management API and of a
	// user with the tag administrator.
	APIURL, Username, Password string
	// URI is the control plane's. Its vhost is the agents' too.
	URI string
	// AgentsURI is where agents connect to, amqp(s)://HOST:PORT without user; that
	// of URI when empty.
	AgentsURI string
}

// Accounts are the agents' own users of the broker: each may read its own queue,
// report in its own name, and nothing else.
type Accounts struct {
	client *Client
	vhost  string
	server string
	// reserved are users that are no agents'.
	reserved []string
}

// NewAccounts does not connect yet. Its error is about the options only.
func NewAccounts(o AccountOptions) (*Accounts, error) {
	own, err := rabbitmq.ParseURI(o.URI)
	if err != nil {
		return nil, err
	}
	if o.AgentsURI == "" {
		o.AgentsURI = (&url.URL{Scheme: own.Scheme, Host: net.JoinHostPort(own.Host, strconv.Itoa(own.Port))}).String()
	}
	agents, err := url.Parse(o.AgentsURI)
	switch {
	case err != nil, agents.Scheme != "amqp" && agents.Scheme != "amqps", agents.Hostname() == "", agents.User != nil, agents.RawQuery != "", agents.Fragment != "":
		return nil, errors.New("the URI of the message queue for agents is not valid: write it as amqp://host:port or amqps://host:port, without user and password")
	case strings.Trim(agents.Path, "/") != "" && strings.TrimPrefix(agents.Path, "/") != own.Vhost:
		return nil, fmt.Errorf("the URI of the message queue for agents has another vhost than the control plane's, which is %q; leave it out", own.Vhost)
	}
	server := url.URL{Scheme: agents.Scheme, Host: agents.Host}
	client, err := NewClient(o.APIURL, o.Username, o.Password)
	if err != nil {
		return nil, err
	}
	return &Accounts{
		client: client, vhost: own.Vhost,
		server:   server.String() + "/" + url.PathEscape(own.Vhost),
		reserved: []string{own.Username, o.Username, "guest"},
	}, nil
}

// Close frees what is kept for further calls.
func (a *Accounts) Close() { a.client.CloseIdle() }

// Admit makes the endpoint's own user, with secret as its password, or puts right
// what is there; repeating it disturbs nobody. Whoever has held the name with
// another secret is expelled. It returns where the agent connects to,
// amqp(s)://HOST:PORT/VHOST.
func (a *Accounts) Admit(ctx context.Context, endpoint, secret string) (server string, err error) {
	u, err := a.find(ctx, endpoint)
	if err != nil {
		return "", err
	}
	if u != nil && !u.has(secret) {
		// A changed password would leave connections open, and the queue is the other's.
		if err := a.remove(ctx, endpoint, u); err != nil {
			return "", err
		}
		u = nil
	}
	if u == nil {
		account := map[string]string{"password": secret, "tags": agentTag}
		if err := a.client.Call(ctx, http.MethodPut, account, nil, "users", endpoint); err != nil {
			return "", fmt.Errorf("make RabbitMQ user %q: %w", endpoint, err)
		}
	}
	name := regexp.QuoteMeta(endpoint)
	// In this order: without a topic permission any routing key would be allowed.
	topic := map[string]string{"exchange": rabbitmq.ReportsExchange, "write": "^" + name + "$", "read": "^$"}
	if err := a.client.Call(ctx, http.MethodPut, topic, nil, "topic-permissions", a.vhost, endpoint); err != nil {
		return "", a.notPermitted(endpoint, err)
	}
	rights := map[string]string{
		"configure": "^$",
		"write":     "^" + regexp.QuoteMeta(rabbitmq.ReportsExchange) + "$",
		"read":      "^" + regexp.QuoteMeta(rabbitmq.Queue(endpoint)) + "$",
	}
	if err := a.client.Call(ctx, http.MethodPut, rights, nil, "permissions", a.vhost, endpoint); err != nil {
		return "", a.notPermitted(endpoint, err)
	}
	return a.server, nil
}

func (a *Accounts) notPermitted(endpoint string, err error) error {
	return fmt.Errorf("give RabbitMQ user %q its permissions in vhost %q (tasker-controlplane initialize --rabbitmq makes the vhost): %w", endpoint, a.vhost, err)
}

// Expel deletes the endpoint's user, which cuts its connections at once, and then
// its queue. What is not there need not be deleted.
func (a *Accounts) Expel(ctx context.Context, endpoint string) error {
	u, err := a.find(ctx, endpoint)
	if err != nil {
		return err
	}
	return a.remove(ctx, endpoint, u)
}

func (a *Accounts) remove(ctx context.Context, endpoint string, u *user) error {
	if u != nil {
		err := a.client.Call(ctx, http.MethodDelete, nil, nil, "users", endpoint)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("delete RabbitMQ user %q: %w", endpoint, err)
		}
	}
	// A hello of one who is still connected would make the queue again.
	if err := a.awaitGone(ctx, endpoint); err != nil {
		return err
	}
	err := a.client.Call(ctx, http.MethodDelete, nil, nil, "queues", a.vhost, rabbitmq.Queue(endpoint))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete queue %s of RabbitMQ: %w", rabbitmq.Queue(endpoint), err)
	}
	return nil
}
