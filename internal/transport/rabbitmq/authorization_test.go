package rabbitmq_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// isUnauthorized reports whether the last state is ErrUnauthorized with this text.
func (s *observer) isUnauthorized(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.states) == 0 {
		return false
	}
	last := s.states[len(s.states)-1]
	return errors.Is(last, transport.ErrUnauthorized) && strings.Contains(last.Error(), want)
}

func TestUnauthorizedLink(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		uri  func(t *testing.T, b *rabbitmqtest.Broker, user string) string
		want string
	}{
		"a wrong password": {func(t *testing.T, b *rabbitmqtest.Broker, user string) string {
			b.AddUser(t, user, "^$", ".*", ".*")
			return b.URIAt(b.Address, user, "s3cr3t")
		}, "the user is unknown, or the password is wrong"},
		"no such user": {func(_ *testing.T, b *rabbitmqtest.Broker, user string) string {
			return b.URIAt(b.Address, user, "s3cr3t")
		}, "the user is unknown, or the password is wrong"},
		"no access to the vhost": {func(t *testing.T, b *rabbitmqtest.Broker, user string) string {
			account := b.AddUserWithTag(t, user, "")
			return b.URIAt(b.Address, account[0], account[1])
		}, "no access to the vhost"},
		"another's queue": {func(t *testing.T, b *rabbitmqtest.Broker, user string) string {
			return b.AddUser(t, user, "^$", ".*", "^endpoint\\.web-2$")
		}, "may not read queue endpoint.web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := rabbitmqtest.New(t)
			seen := &observer{}
			link := newLink(t, tt.uri(t, b, "agent-"+uuid.NewString()), "web-1", func(o *rabbitmq.LinkOptions) { o.Observer = seen.observe })
			receive(t, link, &inbox[tasker.Order]{})
			wait.For(t, "the observer to be notified", func() bool { return seen.isUnauthorized(tt.want) })
			if seen.last("s3cr3t") {
				t.Error("the observer received the password")
			}
		})
	}
}

func TestLinkWithoutWritePermission(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0)) // after this the exchanges and queues exist
	seen := &observer{}
	link := newLink(t, b.AddUser(t, "agent-"+b.Vhost, "^$", "^$", ".*"), "web-1", func(o *rabbitmq.LinkOptions) { o.Observer = seen.observe })
	wait.For(t, "the error of Send", func() bool {
		err := link.Send(t.Context(), update("web-1", 1))
		if !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Send returned %v, want ErrUnavailable", err)
		}
		return errors.Is(err, transport.ErrUnauthorized)
	})
	receive(t, link, &inbox[tasker.Order]{})
	wait.For(t, "the observer to be notified", func() bool { return seen.isUnauthorized("a required permission") })
}

func TestLinkIsAuthorizedLater(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	receive(t, hub, &inbox[tasker.Report]{})
	seen, user := &observer{}, "agent-"+b.Vhost
	link := newLink(t, b.URIAt(b.Address, user, "s3cr3t"), "web-1", func(o *rabbitmq.LinkOptions) { o.Observer = seen.observe })
	receive(t, link, &inbox[tasker.Order]{})
	wait.For(t, "the observer to be notified", func() bool { return seen.isUnauthorized("") })
	if err := link.Send(t.Context(), update("web-1", 1)); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, rabbitmq.ErrCredentials) {
		t.Errorf("Send returned %v, want ErrUnavailable and ErrCredentials", err)
	}
	b.AddUser(t, user, "^$", ".*", ".*")
	account := map[string]string{"password": "s3cr3t", "tags": ""}
	if err := b.Client.Call(t.Context(), http.MethodPut, account, nil, "users", user); err != nil {
		t.Fatal(err)
	}
	wait.For(t, "a report to pass", func() bool { return link.Send(context.Background(), update("web-1", 1)) == nil })
}

func TestMissingQueueIsDeclaredAgain(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	link := newLink(t, b.URI, "web-1")
	send(t, link, hello("web-1", "ping"))
	wait.For(t, "the hello", func() bool { return len(in.all()) == 1 })
	send(t, hub, assignment("ping", "web-1", 1))
	for i, report := range []tasker.Report{hello("web-1", "ping"), beat("web-1", "ping")} {
		b.DeleteQueue(t, rabbitmq.Queue("web-1"))
		if err := hub.Send(t.Context(), assignment("ping", "web-1", 2)); !errors.Is(err, transport.ErrUnroutable) {
			t.Fatalf("Send without a queue returned %v, want ErrUnroutable", err)
		}
		send(t, link, report)
		wait.For(t, "the next report", func() bool { return len(in.all()) == 2+i })
		if err := hub.Send(t.Context(), assignment("ping", "web-1", 3)); err != nil {
			t.Errorf("after the next report, Send returned %v", err)
		}
	}
}
