package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func types() []tasker.TaskType {
	return []tasker.TaskType{
		{Name: "ping", Handler: "ping"},
		{Name: "facts", Handler: "facts"},
		{Name: "update-app", Handler: tasker.ScriptHandler},
	}
}

func newHub(t testing.TB, uri string, change ...func(*rabbitmq.HubOptions)) *rabbitmq.Hub {
	t.Helper()
	o := rabbitmq.HubOptions{URI: uri, Types: types(), Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	hub, err := rabbitmq.NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(t, hub) })
	return hub
}

func newLink(t testing.TB, uri, endpoint string, change ...func(*rabbitmq.LinkOptions)) *rabbitmq.Link {
	t.Helper()
	o := rabbitmq.LinkOptions{URI: uri, Endpoint: endpoint, Instance: "journal-of-" + endpoint, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	link, err := rabbitmq.NewLink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(t, link) })
	return link
}

func closeConn(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// inbox stores the batches that Receive delivers.
type inbox[T any] struct {
	// refuse returns the error of handle; nil accepts every batch. Set it before Receive.
	refuse func(batch []T) error

	mu      sync.Mutex
	batches [][]T
}

func (i *inbox[T]) handle(_ context.Context, batch []T) error {
	if i.refuse != nil {
		if err := i.refuse(batch); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.batches = append(i.batches, batch)
	return nil
}

func (i *inbox[T]) all() []T {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []T
	for _, b := range i.batches {
		all = append(all, b...)
	}
	return all
}

// sessions returns the number of empty batches: one for each session of a link.
func (i *inbox[T]) sessions() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, b := range i.batches {
		if len(b) == 0 {
			n++
		}
	}
	return n
}

type receiver[T any] interface {
	Receive(ctx context.Context, handle func(context.Context, []T) error) error
	Close() error
}

// receive receives into the inbox until the Conn is closed, at the latest at the
// end of the test.
func receive[T any](t testing.TB, conn receiver[T], in *inbox[T]) (done <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := conn.Receive(context.Background(), in.handle); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Receive returned %v, want ErrClosed", err)
		}
	}()
	t.Cleanup(func() {
		closeConn(t, conn)
		<-ended
	})
	return ended
}

// serve returns an agent that sends a hello at the beginning of each session.
func serve(t testing.TB, uri, endpoint string, handlers ...string) (*rabbitmq.Link, *inbox[tasker.Order]) {
	t.Helper()
	link := newLink(t, uri, endpoint)
	in := &inbox[tasker.Order]{}
	in.refuse = func(batch []tasker.Order) error {
		if len(batch) > 0 {
			return nil
		}
		return link.Send(context.Background(), hello(endpoint, handlers...))
	}
	receive(t, link, in)
	return link, in
}

func hello(endpoint string, handlers ...string) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal-of-" + endpoint,
		Hello: &tasker.Hello{Presence: tasker.Presence{Handlers: handlers}, Session: "s"},
	}
}

func beat(endpoint string, handlers ...string) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint,
		Heartbeat: &tasker.Heartbeat{Presence: tasker.Presence{Handlers: handlers}},
	}
}

func update(endpoint string, n int) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint,
		Update: &tasker.Update{TaskID: fmt.Sprintf("task-%d", n), Type: "ping", Attempt: 1, Seq: int64(n), Status: tasker.Running},
	}
}

func assignment(taskType, endpoint string, n int) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Type: taskType, Expires: time.Now().Add(time.Hour),
		Assignment: &tasker.Assignment{TaskID: fmt.Sprintf("task-%d", n), Identifier: fmt.Sprint(n), Attempt: 1, Handler: taskType, Payload: []byte(`{}`)},
	}
}

// send sends messages until all are accepted, also after an outage.
func send[T any](t testing.TB, conn interface {
	Send(context.Context, ...T) error
}, msgs ...T,
) {
	t.Helper()
	wait.For(t, "messages to be sent", func() bool {
		err := conn.Send(t.Context(), msgs...)
		msgs = unsent(msgs, err)
		return err == nil
	})
}

// unsent returns the messages that were not accepted.
func unsent[T any](msgs []T, err error) []T {
	var partly *transport.SendError
	if !errors.As(err, &partly) {
		return msgs
	}
	var again []T
	for i := range msgs {
		if partly.Failed[i] != nil {
			again = append(again, msgs[i])
		}
	}
	return again
}

// tasks counts the task ids among orders.
func tasks(orders []tasker.Order) map[string]int {
	n := map[string]int{}
	for _, o := range orders {
		if o.Assignment != nil {
			n[o.Assignment.TaskID]++
		}
	}
	return n
}

// updates counts the task ids among reports.
func updates(reports []tasker.Report) map[string]int {
	n := map[string]int{}
	for _, r := range reports {
		if r.Update != nil {
			n[r.Update.TaskID]++
		}
	}
	return n
}
