package management_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "p@ss/w0rd?#"

// options returns options for a user and a vhost of the test; neither exists.
func options(t *testing.T) (*rabbitmqtest.Broker, management.Options) {
	t.Helper()
	b := rabbitmqtest.New(t)
	call(t, b, http.MethodDelete, nil, "vhosts", b.Vhost)
	user := "user-of-" + b.Vhost
	t.Cleanup(func() {
		err := b.Client.Call(context.Background(), http.MethodDelete, nil, nil, "users", user)
		if err != nil && !errors.Is(err, management.ErrNotFound) {
			t.Error(err)
		}
	})
	return b, management.Options{
		APIURL: b.APIURL, Username: b.Username, Password: b.Password,
		URI:   b.URIAt(b.Address, user, secret),
		Types: []tasker.TaskType{{Name: "ping", Handler: "ping"}},
		Log:   slog.New(slog.DiscardHandler),
	}
}

func call(t *testing.T, b *rabbitmqtest.Broker, method string, result any, segments ...string) {
	t.Helper()
	if err := b.Client.Call(t.Context(), method, nil, result, segments...); err != nil {
		t.Fatal(err)
	}
}

func TestInitialize(t *testing.T) {
	t.Parallel()
	b, o := options(t)
	if err := management.Initialize(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var exchange struct{ Type string }
	call(t, b, http.MethodGet, &exchange, "exchanges", b.Vhost, rabbitmq.Exchange("ping"))
	if exchange.Type != "direct" {
		t.Errorf("the exchange of the task type has the type %q", exchange.Type)
	}
	publish := func() {
		b.Do(t, func(ch *amqp.Channel) error {
			if err := ch.Confirm(false); err != nil {
				return err
			}
			c, err := ch.PublishWithDeferredConfirm(rabbitmq.ReportsExchange, "web-1", true, false, amqp.Publishing{})
			if err == nil && !c.Wait() {
				err = errors.New("not confirmed")
			}
			return err
		})
	}
	publish()

	o.Types = append(o.Types, tasker.TaskType{Name: "facts", Handler: "facts"})
	if err := management.Initialize(t.Context(), o); err != nil {
		t.Fatalf("the second time: %v", err)
	}
	call(t, b, http.MethodGet, &exchange, "exchanges", b.Vhost, rabbitmq.Exchange("facts"))
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != 1 {
		t.Errorf("%d messages after the second time, want the first message", n)
	}

	o.Reset = true
	if err := management.Initialize(t.Context(), o); err != nil {
		t.Fatalf("with Reset: %v", err)
	}
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != 0 {
		t.Errorf("%d messages after a reset, want none", n)
	}
}

func TestInitializeKeepsPassword(t *testing.T) {
	t.Parallel()
	b, o := options(t)
	if err := management.Initialize(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	right := o.URI
	o.URI = strings.Replace(o.URI, ":p%40ss", ":an0ther", 1)
	err := management.Initialize(t.Context(), o)
	if !errors.Is(err, rabbitmq.ErrCredentials) || !strings.Contains(err.Error(), "change_password user-of-"+b.Vhost) || strings.Contains(err.Error(), "an0ther") {
		t.Errorf("with another password: %v", err)
	}
	o.URI = right
	if err := management.Initialize(t.Context(), o); err != nil {
		t.Errorf("the password was changed: %v", err)
	}
}

func TestInitializeErrors(t *testing.T) {
	t.Parallel()
	b, good := options(t)
	plain := b.AddUserWithTag(t, "plain-"+b.Vhost, "")
	monitor := b.AddUserWithTag(t, "monitor-"+b.Vhost, "monitoring")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>"))
	}))
	t.Cleanup(page.Close)
	const closed = "127.0.0.1:1" // a reserved port
	for name, tt := range map[string]struct {
		change func(*management.Options)
		want   string
	}{
		"no management API":         {func(o *management.Options) { o.APIURL = "http://" + closed + "/api" }, "rabbitmq-plugins enable rabbitmq_management"},
		"another page":              {func(o *management.Options) { o.APIURL = page.URL }, "is not RabbitMQ's management API"},
		"URL without /api":          {func(o *management.Options) { o.APIURL = strings.TrimSuffix(o.APIURL, "/api") }, "ends in /api"},
		"no URL":                    {func(o *management.Options) { o.APIURL = "localhost:15672" }, "http://localhost:15672/api"},
		"wrong password":            {func(o *management.Options) { o.Password = secret }, "the password is wrong"},
		"no tag":                    {func(o *management.Options) { o.Username, o.Password = plain[0], plain[1] }, "administrator"},
		"another tag":               {func(o *management.Options) { o.Username, o.Password = monitor[0], monitor[1] }, "set_user_tags"},
		"no AMQP URI":               {func(o *management.Options) { o.URI = "amqp://tasker:" + secret + "@host" }, "amqp://user:password@host:port/vhost"},
		"AMQP elsewhere":            {func(o *management.Options) { o.URI = b.URIAt(closed, "user-of-"+b.Vhost, secret) }, "connection refused"},
		"reset of the common vhost": {func(o *management.Options) { o.URI, o.Reset = "amqp://guest:guest@"+b.Address+"/", true }, "its own vhost"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			tt.change(&o)
			err := management.Initialize(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("Initialize returned %v, want %q", err, tt.want)
			}
		})
	}
}
