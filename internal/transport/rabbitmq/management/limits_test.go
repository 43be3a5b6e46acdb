package management_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// openAll opens connections as an agent's user until the broker refuses one.
func openAll(t *testing.T, uri string) (open int) {
	t.Helper()
	for range 100 {
		conn, err := amqp.Dial(uri)
		if err != nil {
			return open
		}
		t.Cleanup(func() { _ = conn.Close() })
		open++
	}
	return open
}

// limitsOf returns the limits of a user.
func limitsOf(t *testing.T, b *rabbitmqtest.Broker, name string) map[string]int {
	t.Helper()
	var limits []struct{ Value map[string]int }
	if err := b.Client.Call(t.Context(), http.MethodGet, nil, &limits, "user-limits", name); err != nil && !errors.Is(err, management.ErrNotFound) {
		t.Fatal(err)
	}
	if len(limits) == 0 {
		return nil
	}
	return limits[0].Value
}

func TestConnectionsOfAnAgentAreLimited(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	name := endpoint()
	uri := createAccount(t, newAccounts(t, b), name, "secret")
	if n := openAll(t, uri); n != 16 {
		t.Errorf("%d connections are open, want 16", n)
	}
	if got := limitsOf(t, b, name); got["max-channels"] != 64 {
		t.Errorf("limits %v, want 64 channels", got)
	}
}

// An account of an older control plane, or one whose suspension was not ended, gets its
// limits at the start of a control plane.
func TestLimitsAreCorrected(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	createAccount(t, a, name, "secret")
	if err := b.Client.Call(t.Context(), http.MethodPut, map[string]int{"value": 0}, nil, "user-limits", name, "max-connections"); err != nil {
		t.Fatal(err)
	}
	if err := b.Client.Call(t.Context(), http.MethodDelete, nil, nil, "user-limits", name, "max-channels"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.ApplyLimits(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := limitsOf(t, b, name); got["max-connections"] != 16 || got["max-channels"] != 64 {
			t.Errorf("limits %v, want 16 connections and 64 channels", got)
		}
	}
}

func TestQueueOfRejectedReportsIsLimited(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	if err := newAccounts(t, b).ApplyLimits(t.Context()); err != nil {
		t.Fatal(err)
	}
	var queue struct {
		Policy map[string]int `json:"effective_policy_definition"`
	}
	wait.For(t, "the policy of the queue", func() bool {
		err := b.Client.Call(t.Context(), http.MethodGet, nil, &queue, "queues", b.Vhost, rabbitmq.RejectedQueue)
		return err == nil && queue.Policy["max-length-bytes"] == rabbitmq.MaxRejectedBytes
	})
	body := bytes.Repeat([]byte("x"), 10<<20)
	for range 10 {
		b.Do(t, func(ch *amqp.Channel) error {
			return ch.PublishWithContext(t.Context(), "", rabbitmq.RejectedQueue, false, false, amqp.Publishing{Body: body})
		})
	}
	wait.For(t, "the oldest messages to be dropped", func() bool { return b.Messages(t, rabbitmq.RejectedQueue) == 6 })
}

// While the queue of reports is full, reports are refused, and none that was accepted is
// dropped.
func TestQueueOfReportsIsLimited(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	if err := a.ApplyLimits(t.Context()); err != nil {
		t.Fatal(err)
	}
	var queue struct {
		Policy map[string]any `json:"effective_policy_definition"`
	}
	wait.For(t, "the policy of the queue", func() bool {
		err := b.Client.Call(t.Context(), http.MethodGet, nil, &queue, "queues", b.Vhost, rabbitmq.ReportsQueue)
		return err == nil && queue.Policy["max-length-bytes"] == float64(rabbitmq.MaxReportsBytes) && queue.Policy["overflow"] == "reject-publish"
	})
	ch, err := dial(t, createAccount(t, a, name, "secret")).Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	accepted, body := 0, bytes.Repeat([]byte("x"), 4<<20)
	for range 200 {
		sent, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), rabbitmq.ReportsExchange, name, false, false, amqp.Publishing{UserId: name, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := sent.WaitContext(t.Context()); err != nil {
			t.Fatal(err)
		} else if !ok {
			break
		}
		accepted++
	}
	if accepted < 63 || accepted > 80 {
		t.Errorf("%d messages of 4 MiB were accepted, want about 64", accepted)
	}
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != accepted {
		t.Errorf("%d messages are in the queue, %d were accepted", n, accepted)
	}
}

func TestSuspendedAgentIsDisconnectedForATime(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	a, name := newAccounts(t, b), endpoint()
	uri := createAccount(t, a, name, "secret")
	s := management.NewSuspensions(a, slog.New(slog.DiscardHandler), 2*time.Second)
	conn := dial(t, uri)
	s.Suspend(name)
	s.Suspend(name) // has no effect
	wait.For(t, "the connection to be closed", conn.IsClosed)
	if n := openAll(t, uri); n != 0 {
		t.Errorf("%d connections of a suspended agent were opened", n)
	}
	wait.For(t, "the agent to connect again", func() bool { return openAll(t, uri) > 0 })

	forever := management.NewSuspensions(a, slog.New(slog.DiscardHandler), time.Hour)
	forever.Suspend(name)
	wait.For(t, "the limit", func() bool { return limitsOf(t, b, name)["max-connections"] == 0 })
	forever.Close()
	s.Close()
	if got := limitsOf(t, b, name)["max-connections"]; got != 16 {
		t.Errorf("limit %d after Close, want 16", got)
	}
	forever.Suspend(name) // has no effect
}
