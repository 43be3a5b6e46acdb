package rabbitmq

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestSubscriptionBatches checks that a single message waits no longer than the gap, and that
// a stream makes one batch per linger, also with gaps.
func TestSubscriptionBatches(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := map[string]struct {
		every   time.Duration
		n       int
		batches int
		maxWait time.Duration // of the first batch
	}{
		"single messages":     {every: time.Second, n: 3, batches: 3, maxWait: 3 * ms},
		"a burst":             {every: 0, n: 100, batches: 1, maxWait: 3 * ms},
		"a stream":            {every: ms, n: 100, batches: 6, maxWait: 20 * ms},
		"a stream with gaps":  {every: 5 * ms, n: 40, batches: 11, maxWait: 20 * ms},
		"more than one batch": {every: 0, n: 250, batches: 2, maxWait: 3 * ms},
		"exactly one batch":   {every: 0, n: 200, batches: 1, maxWait: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				deliveries := make(chan amqp.Delivery, tt.n)
				sub := newSubscription(reportOptions(), deliveries)
				began := time.Now()
				var sender sync.WaitGroup
				defer sender.Wait()
				sender.Go(func() {
					for i := range tt.n {
						deliveries <- amqp.Delivery{DeliveryTag: uint64(i)}
						time.Sleep(tt.every) //nolint:forbidigo // the bubble's time
					}
				})
				batches := 0
				for got := 0; got < tt.n; batches++ {
					batch, err := sub.nextBatch(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); got == 0 && took > tt.maxWait {
						t.Errorf("the first batch came after %s, want at most %s", took, tt.maxWait)
					}
					got += len(batch)
				}
				if batches > tt.batches {
					t.Errorf("%d batches, want at most %d", batches, tt.batches)
				}
			})
		})
	}
}

// acks records the acknowledged delivery tags.
type acks struct {
	amqp.Acknowledger
	mu   sync.Mutex
	tags []uint64
}

func (a *acks) Ack(tag uint64, multiple bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if multiple {
		a.tags = append(a.tags, tag)
	}
	return nil
}

func (a *acks) all() []uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.tags)
}

// TestDelayedAcknowledgement checks that a delayed acknowledgement is sent once: with a report,
// or after ackDelay.
func TestDelayedAcknowledgement(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"with a report": ackDelay / 2, "without a report": ackDelay} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var acknowledger acks
				deliveries := make(chan amqp.Delivery, 1)
				sub := newSubscription(reportOptions(), deliveries)
				sub.ackLater(amqp.Delivery{Acknowledger: &acknowledger, DeliveryTag: 7})
				ctx, cancel := context.WithCancel(t.Context())
				var receiving sync.WaitGroup
				receiving.Go(func() { _, _ = sub.nextBatch(ctx) }) // it is cancelled
				defer receiving.Wait()
				defer cancel()
				time.Sleep(delay - time.Millisecond) //nolint:forbidigo // the bubble's time
				synctest.Wait()
				if got := acknowledger.all(); len(got) > 0 {
					t.Fatalf("acknowledged %v too soon", got)
				}
				if delay < ackDelay {
					_ = sub.flushAck()
				}
				time.Sleep(2 * ackDelay) //nolint:forbidigo // the bubble's time
				synctest.Wait()
				if got := acknowledger.all(); !slices.Equal(got, []uint64{7}) {
					t.Errorf("acknowledged %v, want 7 once", got)
				}
			})
		})
	}
}
