package management_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

func types() []tasker.TaskType { return []tasker.TaskType{{Name: "ping", Handler: "ping"}} }

// newAccounts declares the exchanges and queues and returns the accounts of the vhost.
func newAccounts(t *testing.T, b *rabbitmqtest.Broker) *management.Accounts {
	t.Helper()
	if err := rabbitmq.Declare(t.Context(), b.URI, types()); err != nil {
		t.Fatal(err)
	}
	a, err := management.NewAccounts(management.AccountOptions{
		APIURL: b.APIURL, Username: b.Username, Password: b.Password, URI: b.URI,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// endpoint returns a unique name, because users exist in all vhosts.
func endpoint() string { return "web.1-" + uuid.NewString() }

// createAccount creates an account until the end of the test and returns the URI of its
// agent.
func createAccount(t *testing.T, a *management.Accounts, endpoint, secret string) string {
	t.Helper()
	t.Cleanup(func() {
		if err := a.DeleteAccount(context.Background(), endpoint); err != nil {
			t.Errorf("DeleteAccount returned %v", err)
		}
	})
	server, err := a.CreateAccount(t.Context(), endpoint, secret)
	if err != nil {
		t.Fatalf("CreateAccount returned %v", err)
	}
	return strings.Replace(server, "://", "://"+endpoint+":"+secret+"@", 1)
}

// hub is a Hub that stores the updates that it receives.
type hub struct {
	*rabbitmq.Hub
	mu      sync.Mutex
	updates []string
}

func newHub(t *testing.T, b *rabbitmqtest.Broker) *hub {
	t.Helper()
	conn, err := rabbitmq.NewHub(rabbitmq.HubOptions{URI: b.URI, Types: types(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{Hub: conn}
	receive(t, conn, func(_ context.Context, batch []tasker.Report) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range batch {
			if r.Update != nil {
				h.updates = append(h.updates, r.Endpoint+" "+r.Update.TaskID)
			}
		}
		return nil
	})
	return h
}

func (h *hub) has(update string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.updates, update)
}

// agent is a link that sends a hello in each session and reports each assignment.
type agent struct {
	*rabbitmq.Link
	mu        sync.Mutex
	lastState error
}

func newAgent(t *testing.T, uri, endpoint string) *agent {
	t.Helper()
	a := &agent{}
	link, err := rabbitmq.NewLink(rabbitmq.LinkOptions{
		URI: uri, Endpoint: endpoint, Instance: "journal", Log: slog.New(slog.DiscardHandler),
		Observer: func(err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.lastState = err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Link = link
	receive(t, link, func(ctx context.Context, batch []tasker.Order) error {
		if len(batch) == 0 {
			return link.Send(ctx, tasker.Report{
				Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal",
				Hello: &tasker.Hello{Presence: tasker.Presence{Handlers: []string{"ping"}}, Session: "s"},
			})
		}
		for _, o := range batch {
			if err := link.Send(ctx, update(endpoint, o.Assignment.TaskID)); err != nil {
				return err
			}
		}
		return nil
	})
	return a
}

// state returns the last state that the observer received.
func (a *agent) state() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastState
}

// receive receives until the end of the test.
func receive[In any](t *testing.T, conn interface {
	Receive(context.Context, func(context.Context, []In) error) error
	Close() error
}, handle func(context.Context, []In) error,
) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := conn.Receive(context.Background(), handle); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Receive returned %v, want ErrClosed", err)
		}
	}()
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("Close returned %v", err)
		}
		<-done
	})
}

func update(endpoint, task string) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal",
		Update: &tasker.Update{TaskID: task, Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Running},
	}
}

func assignment(endpoint, task string) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Type: "ping", Expires: time.Now().Add(time.Hour),
		Assignment: &tasker.Assignment{TaskID: task, Identifier: task, Attempt: 1, Handler: "ping", Payload: []byte(`{}`)},
	}
}

// userProperties returns what the broker stores about a user.
func userProperties(t *testing.T, b *rabbitmqtest.Broker, name string) []any {
	t.Helper()
	var user any
	var permissions []map[string]any
	call(t, b, http.MethodGet, &user, "users", name)
	call(t, b, http.MethodGet, &permissions, "users", name, "permissions")
	// Other tests create vhosts at the same time, with permissions of guest.
	permissions = slices.DeleteFunc(permissions, func(p map[string]any) bool {
		vhost, _ := p["vhost"].(string)
		return name == "guest" && strings.HasPrefix(vhost, "tasker") && vhost != b.Vhost
	})
	return []any{user, permissions}
}
