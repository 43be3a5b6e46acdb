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

// agentTag marks the users that tasker may change and delete. It grants no permission.
const agentTag = "tasker-agent"

// ErrForeignUser means that RabbitMQ has a user with the endpoint's name that this control
// plane did not create. Repeating the call does not help.
var ErrForeignUser = errors.New("the RabbitMQ user of this name does not belong to an agent of this control plane")

// AccountOptions configure Accounts.
type AccountOptions struct {
	// APIURL is the URL of the management API. Username and Password belong to a user with
	// the tag administrator.
	APIURL, Username, Password string
	// URI is the URI of the control plane. The agents use the same vhost.
	URI string
	// AgentsURI is the URI that agents connect to, amqp(s)://HOST:PORT without user. The
	// default is the server in URI.
	AgentsURI string
}

// Accounts manages the agents' users of the broker. Each user may read its own queue and
// send reports of its own endpoint, and nothing else.
type Accounts struct {
	client *Client
	vhost  string
	server string
	// reserved are the users that no agent may use.
	reserved []string
}

// NewAccounts returns Accounts without connecting. It returns an error only for invalid
// options.
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

// Close closes idle connections.
func (a *Accounts) Close() { a.client.CloseIdle() }

// CreateAccount creates or corrects the endpoint's user, with secret as its password.
// Repeating it does not affect the agent's connection. It first removes a user with
// another secret. It returns the server that the agent connects to,
// amqp(s)://HOST:PORT/VHOST.
func (a *Accounts) CreateAccount(ctx context.Context, endpoint, secret string) (server string, err error) {
	u, err := a.find(ctx, endpoint)
	if err != nil {
		return "", err
	}
	if u != nil && !u.hasPassword(secret) {
		// A new password alone would keep the connections and the queue of the other agent.
		if err := a.remove(ctx, endpoint, u); err != nil {
			return "", err
		}
		u = nil
	}
	if u == nil {
		account := map[string]string{"password": secret, "tags": agentTag}
		if err := a.client.Call(ctx, http.MethodPut, account, nil, "users", endpoint); err != nil {
			return "", fmt.Errorf("create RabbitMQ user %q: %w", endpoint, err)
		}
	}
	name := regexp.QuoteMeta(endpoint)
	// The topic permission comes first: without one, every routing key is allowed.
	topic := map[string]string{"exchange": rabbitmq.ReportsExchange, "write": "^" + name + "$", "read": "^$"}
	if err := a.client.Call(ctx, http.MethodPut, topic, nil, "topic-permissions", a.vhost, endpoint); err != nil {
		return "", a.permissionError(endpoint, err)
	}
	rights := map[string]string{
		"configure": "^$",
		"write":     "^" + regexp.QuoteMeta(rabbitmq.ReportsExchange) + "$",
		"read":      "^" + regexp.QuoteMeta(rabbitmq.Queue(endpoint)) + "$",
	}
	if err := a.client.Call(ctx, http.MethodPut, rights, nil, "permissions", a.vhost, endpoint); err != nil {
		return "", a.permissionError(endpoint, err)
	}
	return a.server, a.correctLimits(ctx, endpoint, nil)
}

func (a *Accounts) permissionError(endpoint string, err error) error {
	return fmt.Errorf("set the permissions of RabbitMQ user %q in vhost %q (tasker-controlplane initialize --rabbitmq creates the vhost): %w", endpoint, a.vhost, err)
}

// DeleteAccount deletes the endpoint's user, which closes its connections at once, and then its
// queue. It can be repeated.
func (a *Accounts) DeleteAccount(ctx context.Context, endpoint string) error {
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
	// A hello on an open connection would restore the queue.
	if err := a.awaitDisconnect(ctx, endpoint); err != nil {
		return err
	}
	err := a.client.Call(ctx, http.MethodDelete, nil, nil, "queues", a.vhost, rabbitmq.Queue(endpoint))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete queue %s of RabbitMQ: %w", rabbitmq.Queue(endpoint), err)
	}
	return nil
}
