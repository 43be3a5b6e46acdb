package management

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// The limits of an agent's user. An agent has one connection with two channels. After an
// outage of the network, the broker may count some lost connections for half a minute.
const (
	maxConnections = 16
	maxChannels    = 64
)

// The names of the limits in the management API.
const (
	connectionLimit = "max-connections"
	channelLimit    = "max-channels"
)

// agentLimits are the limits of an agent's user.
func agentLimits() map[string]int {
	return map[string]int{connectionLimit: maxConnections, channelLimit: maxChannels}
}

// setPolicies limits the sizes of the queues of reports. The limit of rejected reports is an
// operator policy, so that it adds to a policy of the broker's operator for the same queue.
// The limit of reports is a policy of the lowest priority, because an operator policy would
// make the broker drop reports that it has accepted.
func setPolicies(ctx context.Context, client *Client, vhost string) error {
	for _, p := range []struct {
		kind, name, queue string
		definition        map[string]any
	}{
		{"operator-policies", "tasker-rejected-reports", rabbitmq.RejectedQueue, map[string]any{"max-length-bytes": rabbitmq.MaxRejectedBytes}},
		{"policies", "tasker-reports", rabbitmq.ReportsQueue, map[string]any{"max-length-bytes": rabbitmq.MaxReportsBytes, "overflow": "reject-publish"}},
	} {
		policy := map[string]any{"pattern": "^" + regexp.QuoteMeta(p.queue) + "$", "apply-to": "queues", "priority": 0, "definition": p.definition}
		if err := client.Call(ctx, http.MethodPut, policy, nil, p.kind, vhost, p.name); err != nil {
			return fmt.Errorf("limit the size of queue %s with a policy: %w", p.queue, err)
		}
	}
	return nil
}

// setLimit sets one limit of a user. A broker without such limits is no error.
func (a *Accounts) setLimit(ctx context.Context, endpoint, limit string, value int) error {
	err := a.client.Call(ctx, http.MethodPut, map[string]int{"value": value}, nil, "user-limits", endpoint, limit)
	if err == nil || errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), "feature flag") {
		return nil
	}
	return fmt.Errorf("set %s of RabbitMQ user %q: %w", limit, endpoint, err)
}

// ApplyLimits limits the queues of reports and the connections of every agent's
// user in the vhost. It corrects limits that an older control plane has not set, and those
// of an agent that was suspended when a control plane was killed. It can be repeated.
func (a *Accounts) ApplyLimits(ctx context.Context) error {
	if err := setPolicies(ctx, a.client, a.vhost); err != nil {
		return err
	}
	var users []struct {
		Name string
		user
	}
	if err := a.client.Call(ctx, http.MethodGet, nil, &users, "users"); err != nil {
		return fmt.Errorf("list the users of RabbitMQ: %w", err)
	}
	var rights []struct{ User string }
	if err := a.client.Call(ctx, http.MethodGet, nil, &rights, "vhosts", a.vhost, "permissions"); err != nil {
		return fmt.Errorf("list the permissions in vhost %q of RabbitMQ: %w", a.vhost, err)
	}
	var limits []struct {
		User  string
		Value map[string]int
	}
	if err := a.client.Call(ctx, http.MethodGet, nil, &limits, "user-limits"); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("list the limits of RabbitMQ's users: %w", err)
	}
	isHere, has := map[string]bool{}, map[string]map[string]int{}
	for _, r := range rights {
		isHere[r.User] = true
	}
	for _, l := range limits {
		has[l.User] = l.Value
	}
	for _, u := range users {
		if !u.isAgent() || !isHere[u.Name] {
			continue
		}
		if err := a.correctLimits(ctx, u.Name, has[u.Name]); err != nil {
			return err
		}
	}
	return nil
}

// correctLimits sets the limits of a user that differ from those it should have.
func (a *Accounts) correctLimits(ctx context.Context, endpoint string, has map[string]int) error {
	for limit, value := range agentLimits() {
		if current, ok := has[limit]; ok && current == value {
			continue
		}
		if err := a.setLimit(ctx, endpoint, limit, value); err != nil {
			return err
		}
	}
	return nil
}
