package rabbitmq_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestSendErrorNamesUnroutableOrders(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	reg := prometheus.NewRegistry()
	metrics := rabbitmq.NewMetrics(reg)
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) { o.Metrics = metrics })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprintf("web-%d", i)
		link := newLink(t, b.URI, names[i])
		send(t, link, hello(names[i], "ping"))
	}
	wait.For(t, "all hellos", func() bool { return len(in.all()) >= len(names) })

	const n = 5000
	orders, want := make([]tasker.Order, n), []int{}
	for i := range orders {
		orders[i] = assignment("ping", names[i%len(names)], i)
		switch {
		case i%7 == 3:
			orders[i].Endpoint = fmt.Sprintf("absent-%d", i)
		case i == 1000:
			orders[i].Type = "facts" // configured, but not served
		case i == 2000:
			orders[i].Type = "unknown"
		case i == 3000:
			orders[i].Endpoint = "Not A Name"
		default:
			continue
		}
		want = append(want, i)
	}
	var partly *transport.SendError
	if err := hub.Send(t.Context(), orders...); !errors.As(err, &partly) {
		t.Fatalf("Send returned %v, want a SendError", err)
	}
	got := []int{}
	for i, err := range partly.Failed {
		if !errors.Is(err, transport.ErrUnroutable) {
			t.Errorf("order %d failed with %v, want ErrUnroutable", i, err)
		}
		got = append(got, i)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || partly.Of != n {
		t.Errorf("of %d, failed (-want +got):\n%s", partly.Of, diff)
	}
	waiting := 0
	for _, name := range names {
		waiting += b.Messages(t, rabbitmq.Queue(name))
	}
	if waiting != n-len(want) {
		t.Errorf("%d orders wait in the queues, want %d", waiting, n-len(want))
	}
	const returned = "tasker_controlplane_rabbitmq_returned_orders_total"
	if got, err := testutil.GatherAndCount(reg, returned); err != nil || got != 1 {
		t.Errorf("metric %s: %d, %v", returned, got, err)
	}
}

func TestHeartbeatChangesBindings(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	link := newLink(t, b.URI, "web-1")
	for _, step := range []struct {
		report      tasker.Report
		ping, facts []string
	}{
		{hello("web-1", "ping"), []string{tasker.AllEndpoints, "web-1"}, []string{}},
		{beat("web-1", "ping", "facts"), []string{tasker.AllEndpoints, "web-1"}, []string{tasker.AllEndpoints, "web-1"}},
		{beat("web-1", "facts"), []string{}, []string{tasker.AllEndpoints, "web-1"}},
		{beat("web-1"), []string{}, []string{}},
	} {
		before := len(in.all())
		send(t, link, step.report)
		wait.For(t, "the report", func() bool { return len(in.all()) > before })
		for taskType, want := range map[string][]string{"ping": step.ping, "facts": step.facts} {
			got := b.Keys(t, rabbitmq.Exchange(taskType), rabbitmq.Queue("web-1"))
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("bound to %s (-want +got):\n%s", taskType, diff)
			}
		}
	}
}

func TestRestartedHubRemovesBindings(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	link := newLink(t, b.URI, "web-1")
	for _, handlers := range [][]string{{"ping", "facts"}, {"ping"}} {
		hub, in := newHub(t, b.URI), &inbox[tasker.Report]{}
		receive(t, hub, in)
		send(t, link, beat("web-1", handlers...))
		wait.For(t, "the heartbeat", func() bool { return len(in.all()) > 0 })
		closeConn(t, hub)
	}
	if got := b.Keys(t, rabbitmq.Exchange("facts"), rabbitmq.Queue("web-1")); len(got) != 0 {
		t.Errorf("still bound to facts by %v, although the endpoint no longer serves it", got)
	}
}

func TestHeldBatchIsRedelivered(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	if err := rabbitmq.Declare(t.Context(), b.URI, types()); err != nil {
		t.Fatal(err)
	}
	link := newLink(t, b.URI, "web-1")
	reports := make([]tasker.Report, 100)
	for i := range reports {
		reports[i] = update("web-1", i)
	}
	send(t, link, reports...)

	var refused atomic.Pointer[[]tasker.Report]
	in := &inbox[tasker.Report]{refuse: func(batch []tasker.Report) error {
		if refused.CompareAndSwap(nil, &[]tasker.Report{}) {
			kept := slices.Clone(batch)
			refused.Store(&kept)
			clear(batch) // it belongs to the handler until it returns
			return errors.New("the database is unavailable")
		}
		return nil
	}}
	hub := newHub(t, b.URI)
	done := receive(t, hub, in)
	wait.For(t, "all reports", func() bool { return len(in.all()) >= len(reports) })
	if diff := cmp.Diff(*refused.Load(), in.batches[0]); diff != "" {
		t.Errorf("another batch than the refused one (-refused +delivered):\n%s", diff)
	}
	if diff := cmp.Diff(reports, in.all()); diff != "" {
		t.Errorf("reports, in order and once (-want +got):\n%s", diff)
	}
	closeConn(t, hub)
	<-done
	if n := b.Messages(t, rabbitmq.ReportsQueue); n != 0 {
		t.Errorf("%d reports are left in the queue", n)
	}
}

func TestRejectedReports(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	reg := prometheus.NewRegistry()
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) { o.Metrics = rabbitmq.NewMetrics(reg) })
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	if err := hub.Send(t.Context(), assignment("ping", tasker.AllEndpoints, 0)); err != nil {
		t.Fatal(err)
	}
	endpoint := "intruder-" + b.Vhost
	other := b.AddUser(t, endpoint, "^$", ".*", ".*")

	good, err := json.Marshal(update("web-1", 1))
	if err != nil {
		t.Fatal(err)
	}
	invalid := []struct {
		name, key, user string
		body            string
	}{
		{"no JSON", "web-1", b.Username, "\x00\x01"},
		{"no report", "web-1", b.Username, `{"v":1,"endpoint":"web-1"}`},
		{"a higher version", "web-1", b.Username, `{"v":3,"endpoint":"web-1","goodbye":{}}`},
		{"a higher version that cannot be decoded", "web-1", b.Username, `{"v":3,"endpoint":"web-1","goodbye":7}`},
		{"another endpoint's name", "web-2", b.Username, string(good)},
		{"no name", "Not A Name", b.Username, `{"v":1,"endpoint":"Not A Name","goodbye":{}}`},
		{"no user", "web-1", "", string(good)},
	}
	for _, p := range invalid {
		put(t, b, rabbitmq.ReportsExchange, p.key, amqp.Publishing{UserId: p.user, Body: []byte(p.body)})
	}
	send(t, newLink(t, other, endpoint), update(endpoint, 2)) // its own endpoint
	send(t, newLink(t, other, "web-1"), update("web-1", 3))   // another endpoint
	send(t, newLink(t, b.URI, "web-1"), update("web-1", 4))   // the control plane's own user
	wait.For(t, "the accepted reports", func() bool { return len(in.all()) >= 2 })
	wait.For(t, "the others to be rejected", func() bool { return b.Messages(t, rabbitmq.RejectedQueue) == len(invalid)+1 })
	if diff := cmp.Diff(map[string]int{"task-2": 1, "task-4": 1}, updates(in.all())); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "tasker_controlplane_rabbitmq_refused_reports_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	if diff := cmp.Diff(map[string]float64{"undecodable": 2, "version": 2, "speaker": 4, "rules": 0}, got); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}
