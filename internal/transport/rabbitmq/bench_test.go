package rabbitmq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

// fleet declares the queues of n endpoints that serve ping and returns their names.
func fleet(b *testing.B, broker *rabbitmqtest.Broker, n int) []string {
	b.Helper()
	if err := rabbitmq.Declare(b.Context(), broker.URI, types()); err != nil {
		b.Fatal(err)
	}
	names := make([]string, n)
	broker.Do(b, func(ch *amqp.Channel) error {
		for i := range names {
			names[i] = fmt.Sprintf("web-%d", i)
			if _, err := ch.QueueDeclare(rabbitmq.Queue(names[i]), true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}); err != nil {
				return err
			}
			for _, key := range []string{names[i], tasker.AllEndpoints} {
				if err := ch.QueueBind(rabbitmq.Queue(names[i]), key, rabbitmq.Exchange("ping"), false, nil); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return names
}

// BenchmarkSend sends to 1,000 endpoints: by name, and to all endpoints.
func BenchmarkSend(b *testing.B) {
	broker := rabbitmqtest.New(b)
	named := []tasker.Order{}
	for i, name := range fleet(b, broker, 1000) {
		named = append(named, assignment("ping", name, i))
	}
	hub := newHub(b, broker.URI)
	for name, orders := range map[string][]tasker.Order{
		"named": named, "all endpoints": {assignment("ping", tasker.AllEndpoints, 0)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := hub.Send(context.Background(), orders...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReceive receives 10,000 reports.
func BenchmarkReceive(b *testing.B) {
	broker := rabbitmqtest.New(b)
	if err := rabbitmq.Declare(b.Context(), broker.URI, types()); err != nil {
		b.Fatal(err)
	}
	link := newLink(b, broker.URI, "web-1")
	reports := make([]tasker.Report, 10_000)
	for i := range reports {
		reports[i] = update("web-1", i)
	}
	batches, rounds := 0, 0
	for b.Loop() {
		b.StopTimer()
		send(b, link, reports...)
		hub := newHub(b, broker.URI)
		ctx, cancel := context.WithCancel(context.Background())
		var got atomic.Int64
		rounds++
		b.StartTimer()
		_ = hub.Receive(ctx, func(_ context.Context, batch []tasker.Report) error {
			batches++
			if got.Add(int64(len(batch))) == int64(len(reports)) {
				cancel()
			}
			return nil
		})
		b.StopTimer()
		cancel()
		closeConn(b, hub)
		b.StartTimer()
	}
	b.ReportMetric(float64(len(reports)*rounds)/b.Elapsed().Seconds(), "reports/s")
	b.ReportMetric(float64(len(reports)*rounds)/float64(batches), "reports/batch")
}

// BenchmarkHello receives the hellos of 200 endpoints that wait: the first time it declares
// their queues, the second time the queues exist.
func BenchmarkHello(b *testing.B) {
	const n = 200
	for _, times := range []int{1, 2} {
		b.Run(fmt.Sprint(times), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				broker := rabbitmqtest.New(b)
				if err := rabbitmq.Declare(b.Context(), broker.URI, types()); err != nil {
					b.Fatal(err)
				}
				for range times {
					receiveHellos(b, broker, n)
				}
				b.StartTimer()
			}
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N*n*times), "ms/hello")
		})
	}
}

// receiveHellos publishes n hellos and, with the timer on, receives them.
func receiveHellos(b *testing.B, broker *rabbitmqtest.Broker, n int64) {
	b.Helper()
	broker.Do(b, func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		var last *amqp.DeferredConfirmation
		for i := range n {
			name := fmt.Sprintf("web-%d", i)
			body, err := json.Marshal(hello(name, "ping", "facts"))
			if err != nil {
				return err
			}
			p := amqp.Publishing{UserId: broker.Username, Body: body}
			if last, err = ch.PublishWithDeferredConfirm(rabbitmq.ReportsExchange, name, true, false, p); err != nil {
				return err
			}
		}
		last.Wait()
		return nil
	})
	hub := newHub(b, broker.URI)
	defer closeConn(b, hub)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := int64(0)
	b.StartTimer()
	defer b.StopTimer()
	_ = hub.Receive(ctx, func(_ context.Context, batch []tasker.Report) error {
		if got += int64(len(batch)); got == n {
			cancel()
		}
		return nil
	})
}
