package management_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func types() []tasker.TaskType { return []tasker.TaskType{{Name: "ping", Handler: "ping"}} }

// newAccounts are those of a vhost with everything declared.
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

// endpoint is a name that no other test has: users belong to all vhosts.
func endpoint() string { return "web.1-" + uuid.NewString() }

// admit admits an endpoint until the end of the test, and returns the URI that
// its agent has.
func admit(t *testing.T, a *management.Accounts, endpoint, secret string) string {
	t.Helper()
	t.Cleanup(func() {
		if err := a.Expel(context.Background(), endpoint); err != nil {
			t.Errorf("Expel returned %v", err)
		}
	})
	server, err := a.Admit(t.Context(), endpoint, secret)
	if err != nil {
		t.Fatalf("Admit returned %v", err)
	}
	return strings.Replace(server, "://", "://"+endpoint+":"+secret+"@", 1)
}

// hub is a control plane's end that notes the updates it receives.
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
	for _, u := range h.updates {
		if u == update {
			return true
		}
	}
	return false
}

// agent is a link that says hello when it should, and reports each assignment.
type agent struct {
	*rabbitmq.Link
	mu   sync.Mutex
	told error
}

func newAgent(t *testing.T, uri, endpoint string) *agent {
	t.Helper()
	a := &agent{}
	link, err := rabbitmq.NewLink(rabbitmq.LinkOptions{
		URI: uri, Endpoint: endpoint, Instance: "journal", Log: slog.New(slog.DiscardHandler),
		Observer: func(err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.told = err
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

func (a *agent) standing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told
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

func TestAnAdmittedAgentWorksUntilItIsExpelled(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, h, name := newAccounts(t, b), newHub(t, b), endpoint()
	uri := admit(t, a, name, "first-secret")
	first := newAgent(t, uri, name)
	wait.For(t, "an order to pass", func() bool { return h.Send(t.Context(), assignment(name, "one")) == nil })
	wait.For(t, "its report", func() bool { return h.has(name + " one") })
	// Repeated, it disturbs nobody.
	session := dial(t, uri)
	if server, err := a.Admit(t.Context(), name, "first-secret"); err != nil || server != "amqp://"+b.Address+"/"+b.Vhost {
		t.Errorf("Admit, repeated, returned %q, %v", server, err)
	}
	if session.IsClosed() {
		t.Error("Admit, repeated, has cut a connection")
	}

	if err := a.Expel(t.Context(), name); err != nil {
		t.Fatalf("Expel returned %v", err)
	}
	if err := h.Send(t.Context(), assignment(name, "two")); !errors.Is(err, transport.ErrUnroutable) {
		t.Errorf("Send to an expelled endpoint returned %v, want ErrUnroutable", err)
	}
	wait.For(t, "the connection to be cut", session.IsClosed)
	wait.For(t, "the agent to know", func() bool { return errors.Is(first.standing(), transport.ErrUnauthorized) })
	if err := first.Send(t.Context(), update(name, "after")); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, transport.ErrUnauthorized) {
		t.Errorf("Send of the expelled agent returned %v, want ErrUnavailable and ErrUnauthorized", err)
	}
	if err := a.Expel(t.Context(), name); err != nil {
		t.Errorf("Expel, repeated, returned %v", err)
	}
	if n := b.Messages(t, rabbitmq.Queue(name)); n != -1 {
		t.Errorf("its queue is there, with %d messages", n)
	}

	second := newAgent(t, admit(t, a, name, "second-secret"), name)
	wait.For(t, "an order to pass to the agent that was admitted anew", func() bool {
		return h.Send(t.Context(), assignment(name, "three")) == nil
	})
	wait.For(t, "its report", func() bool { return h.has(name + " three") })
	wait.For(t, "it to be content", func() bool { return second.standing() == nil })
	if !errors.Is(first.standing(), transport.ErrUnauthorized) {
		t.Errorf("the expelled one was told %v, want ErrUnauthorized", first.standing())
	}
}

// dial connects as an agent's user.
func dial(t *testing.T, uri string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.Dial(uri)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestANewSecretExpelsTheOldOne(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	old := admit(t, a, name, "first-secret")
	conn := dial(t, old)
	b.Do(t, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(rabbitmq.Queue(name), true, false, false, false, nil)
		return err
	})
	dial(t, admit(t, a, name, "second-secret"))
	wait.For(t, "the first to be cut off", conn.IsClosed)
	if n := b.Messages(t, rabbitmq.Queue(name)); n != -1 {
		t.Error("the queue of the first is there")
	}
	if _, err := amqp.Dial(old); !errors.Is(err, amqp.ErrCredentials) {
		t.Errorf("the first secret: %v, want ErrCredentials", err)
	}
}

func TestWhatAnAgentMayNot(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	other := strings.Replace(name, ".", "x", 1) // what the dot would match
	conn := dial(t, admit(t, a, name, "first-secret"))
	for _, queue := range []string{name, other} {
		b.Do(t, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(rabbitmq.Queue(queue), true, false, false, false, nil)
			return err
		})
	}
	publish := func(exchange, key string, p amqp.Publishing) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			if err := ch.Confirm(false); err != nil {
				return err
			}
			closes := ch.NotifyClose(make(chan *amqp.Error, 1))
			c, err := ch.PublishWithDeferredConfirm(exchange, key, false, false, p)
			if err != nil {
				return err
			}
			if !c.Wait() {
				return <-closes
			}
			return nil
		}
	}
	read := func(queue string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.Consume(queue, "", false, false, false, false, nil)
			return err
		}
	}
	own := rabbitmq.Queue(name)
	for what, tt := range map[string]struct {
		do   func(*amqp.Channel) error
		code int
	}{
		"report":                         {publish(rabbitmq.ReportsExchange, name, amqp.Publishing{UserId: name}), 0},
		"report for another":             {publish(rabbitmq.ReportsExchange, other, amqp.Publishing{}), amqp.AccessRefused},
		"report for one whose name ends": {publish(rabbitmq.ReportsExchange, "x"+name, amqp.Publishing{}), amqp.AccessRefused},
		"report as another user":         {publish(rabbitmq.ReportsExchange, name, amqp.Publishing{UserId: other}), amqp.PreconditionFailed},
		"order to itself":                {publish("", own, amqp.Publishing{}), amqp.AccessRefused},
		"order to another":               {publish("", rabbitmq.Queue(other), amqp.Publishing{}), amqp.AccessRefused},
		"order to all":                   {publish(rabbitmq.Exchange("ping"), tasker.AllEndpoints, amqp.Publishing{}), amqp.AccessRefused},
		"read its queue":                 {read(own), 0},
		"read another's queue":           {read(rabbitmq.Queue(other)), amqp.AccessRefused},
		"read the reports":               {read(rabbitmq.ReportsQueue), amqp.AccessRefused},
		"read what was set aside":        {read(rabbitmq.RejectedQueue), amqp.AccessRefused},
		"get from another's queue": {func(ch *amqp.Channel) error {
			_, _, err := ch.Get(rabbitmq.Queue(other), false)
			return err
		}, amqp.AccessRefused},
		"purge another's queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueuePurge(rabbitmq.Queue(other), false)
			return err
		}, amqp.AccessRefused},
		"declare its queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(own, true, false, false, false, nil)
			return err
		}, amqp.AccessRefused},
		"declare a queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("", false, true, true, false, nil)
			return err
		}, amqp.AccessRefused},
		"declare an exchange": {func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare("mine", "topic", false, false, false, false, nil)
		}, amqp.AccessRefused},
		"bind its queue to the reports": {func(ch *amqp.Channel) error {
			return ch.QueueBind(own, "#", rabbitmq.ReportsExchange, false, nil)
		}, amqp.AccessRefused},
		"delete its queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(own, false, false, false)
			return err
		}, amqp.AccessRefused},
		"delete another's queue": {func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(rabbitmq.Queue(other), false, false, false)
			return err
		}, amqp.AccessRefused},
		"delete the exchange": {func(ch *amqp.Channel) error {
			return ch.ExchangeDelete(rabbitmq.ReportsExchange, false, false)
		}, amqp.AccessRefused},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			err = tt.do(ch)
			var refused *amqp.Error
			switch {
			case tt.code == 0 && err != nil:
				t.Errorf("refused: %v", err)
			case tt.code != 0 && (!errors.As(err, &refused) || refused.Code != tt.code):
				t.Errorf("got %v, want code %d", err, tt.code)
			}
		})
	}
	t.Run("use the management API", func(t *testing.T) {
		t.Parallel()
		client, err := management.NewClient(b.APIURL, name, "first-secret")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.CloseIdle)
		if err := client.Call(t.Context(), http.MethodGet, nil, nil, "overview"); err == nil {
			t.Error("it is let in")
		}
	})
}

func TestUsersThatAreNotTaskers(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a := newAccounts(t, b)
	plain := b.AddUserWithTag(t, endpoint(), "")
	admin := b.AddUserWithTag(t, endpoint(), "tasker-agent,administrator")
	elsewhere := endpoint()
	admit(t, newAccounts(t, rabbitmqtest.New(t)), elsewhere, "another-secret")
	for _, name := range []string{"guest", b.Username, plain[0], admin[0], elsewhere} {
		before := show(t, b, name)
		if _, err := a.Admit(t.Context(), name, "first-secret"); !errors.Is(err, management.ErrForeignUser) || strings.Contains(err.Error(), "first-secret") {
			t.Errorf("Admit of %s returned %v, want ErrForeignUser", name, err)
		}
		if err := a.Expel(t.Context(), name); !errors.Is(err, management.ErrForeignUser) {
			t.Errorf("Expel of %s returned %v, want ErrForeignUser", name, err)
		}
		if diff := cmp.Diff(before, show(t, b, name)); diff != "" {
			t.Errorf("user %s was changed (-before +after):\n%s", name, diff)
		}
	}
	if _, err := a.Admit(t.Context(), "../vhosts", "first-secret"); err == nil {
		t.Error("Admit takes what is no name")
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
			t.Errorf("%s: NewAccounts returned %v, want it to say %q", tt.name, err, tt.want)
		}
	}
}

func TestWhereAgentsConnect(t *testing.T) {
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
		server, err := a.Admit(t.Context(), name, "first-secret")
		if err != nil || server != want {
			t.Errorf("with %q, Admit returned %q, %v, want %q", agents, server, err, want)
		}
		if err := a.Expel(t.Context(), name); err != nil {
			t.Errorf("Expel returned %v", err)
		}
	}
}

func TestAdmitSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	t.Cleanup(func() {
		if err := a.Expel(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	call(t, b, http.MethodDelete, nil, "vhosts", b.Vhost)
	if _, err := a.Admit(t.Context(), name, "first-secret"); err == nil || !strings.Contains(err.Error(), "initialize --rabbitmq") || strings.Contains(err.Error(), "first-secret") {
		t.Errorf("without the vhost, Admit returned %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Expel(done, name); !errors.Is(err, context.Canceled) {
		t.Errorf("Expel with a context that is done returned %v", err)
	}
}
