package management_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

// show returns the properties of a user of the broker.
func show(t *testing.T, b *rabbitmqtest.Broker, name string) []any {
	t.Helper()
	var user any
	var permissions []map[string]any
	call(t, b, http.MethodGet, &user, "users", name)
	call(t, b, http.MethodGet, &permissions, "users", name, "permissions")
	// Tests at the same time make vhosts of their own, with guest's permissions.
	permissions = slices.DeleteFunc(permissions, func(p map[string]any) bool {
		vhost, _ := p["vhost"].(string)
		return name == "guest" && strings.HasPrefix(vhost, "tasker") && vhost != b.Vhost
	})
	return []any{user, permissions}
}
