package management_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

func TestForeignUsers(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a := newAccounts(t, b)
	plain := b.AddUserWithTag(t, endpoint(), "")
	admin := b.AddUserWithTag(t, endpoint(), "tasker-agent,administrator")
	elsewhere := endpoint()
	createAccount(t, newAccounts(t, rabbitmqtest.New(t)), elsewhere, "another-secret")
	for _, name := range []string{"guest", b.Username, plain[0], admin[0], elsewhere} {
		before := userProperties(t, b, name)
		if _, err := a.CreateAccount(t.Context(), name, "first-secret"); !errors.Is(err, management.ErrForeignUser) || strings.Contains(err.Error(), "first-secret") {
			t.Errorf("CreateAccount of %s returned %v, want ErrForeignUser", name, err)
		}
		if err := a.DeleteAccount(t.Context(), name); !errors.Is(err, management.ErrForeignUser) {
			t.Errorf("DeleteAccount of %s returned %v, want ErrForeignUser", name, err)
		}
		if diff := cmp.Diff(before, userProperties(t, b, name)); diff != "" {
			t.Errorf("user %s was changed (-before +after):\n%s", name, diff)
		}
	}
	if _, err := a.CreateAccount(t.Context(), "../vhosts", "first-secret"); err == nil {
		t.Error("CreateAccount accepts an invalid name")
	}
}

const secretInURI = "hunter2"

func TestAccountOptions(t *testing.T) {
	t.Parallel()
	good := management.AccountOptions{
		APIURL: "http://127.0.0.1:15672/api", Username: "guest", Password: "guest",
		URI: "amqps://tasker:" + secretInURI + "@broker:5671/ta%2Fsker",
	}
	for _, tt := range []struct {
		name   string
		change func(*management.AccountOptions)
		want   string
	}{
		{"URI of the control plane", func(o *management.AccountOptions) { o.URI = "http://tasker:" + secretInURI + "@broker" }, "amqp://user:password@host:port/vhost"},
		{"management API", func(o *management.AccountOptions) { o.APIURL = "broker:15672" }, "management API"},
		{"agents over http", func(o *management.AccountOptions) { o.AgentsURI = "http://broker" }, "amqp://host:port"},
		{"no host", func(o *management.AccountOptions) { o.AgentsURI = "amqp:///tasker" }, "amqp://host:port"},
		{"a user", func(o *management.AccountOptions) { o.AgentsURI = "amqp://u:" + secretInURI + "@broker" }, "without user and password"},
		{"a user that cannot be read", func(o *management.AccountOptions) { o.AgentsURI = "amqp://u:" + secretInURI + "%zz@broker" }, "without user and password"},
		{"another vhost", func(o *management.AccountOptions) { o.AgentsURI = "amqp://broker/tasker" }, `"ta/sker"`},
	} {
		o := good
		tt.change(&o)
		if _, err := management.NewAccounts(o); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secretInURI) {
			t.Errorf("%s: NewAccounts returned %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestAgentServer(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	newAccounts(t, b)
	for agents, want := range map[string]string{
		"":                                "amqp://" + b.Address + "/" + b.Vhost,
		"amqps://mq.example.org":          "amqps://mq.example.org/" + b.Vhost,
		"amqps://mq.example.org:5671/":    "amqps://mq.example.org:5671/" + b.Vhost,
		"amqp://[2001:db8::1]/" + b.Vhost: "amqp://[2001:db8::1]/" + b.Vhost,
	} {
		a, err := management.NewAccounts(management.AccountOptions{
			APIURL: b.APIURL, Username: b.Username, Password: b.Password, URI: b.URI, AgentsURI: agents,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		name := endpoint()
		server, err := a.CreateAccount(t.Context(), name, "first-secret")
		if err != nil || server != want {
			t.Errorf("with %q, CreateAccount returned %q, %v, want %q", agents, server, err, want)
		}
		if err := a.DeleteAccount(t.Context(), name); err != nil {
			t.Errorf("DeleteAccount returned %v", err)
		}
	}
}

func TestCreateAccountErrors(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	t.Cleanup(func() {
		if err := a.DeleteAccount(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	call(t, b, http.MethodDelete, nil, "vhosts", b.Vhost)
	if _, err := a.CreateAccount(t.Context(), name, "first-secret"); err == nil || !strings.Contains(err.Error(), "initialize --rabbitmq") || strings.Contains(err.Error(), "first-secret") {
		t.Errorf("without the vhost, CreateAccount returned %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.DeleteAccount(done, name); !errors.Is(err, context.Canceled) {
		t.Errorf("DeleteAccount with a context that is done returned %v", err)
	}
}
