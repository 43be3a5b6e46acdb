package rabbitmqtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// deleteAgents deletes the users of the agents that have enrolled in the vhost.
func (b *Broker) deleteAgents(ctx context.Context, t testing.TB) {
	t.Helper()
	var permissions []struct{ User string }
	if err := b.Client.Call(ctx, http.MethodGet, nil, &permissions, "vhosts", b.Vhost, "permissions"); err != nil {
		if !errors.Is(err, management.ErrNotFound) {
			t.Errorf("list the users of the vhost: %v", err)
		}
		return
	}
	for _, p := range permissions {
		var u struct{ Tags any }
		err := b.Client.Call(ctx, http.MethodGet, nil, &u, "users", p.User)
		if err == nil && strings.Contains(fmt.Sprint(u.Tags), "tasker-agent") {
			err = b.Client.Call(ctx, http.MethodDelete, nil, nil, "users", p.User)
		}
		if err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Errorf("delete user %s: %v", p.User, err)
		}
	}
}
