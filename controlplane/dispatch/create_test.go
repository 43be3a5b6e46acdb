package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/dispatch"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The orders of new tasks are sent without reading the outbox.
func TestCreatedTaskIsSentWithoutRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		d, stop := run(t, o, sendAll, 10)
		_, _, before := o.counts()
		began := time.Now()
		create(t, d, 25)
		synctest.Wait()
		if sent, _, reads := o.counts(); sent != 25 || reads != before || !time.Now().Equal(began) {
			t.Errorf("%d sent after %s with %d reads, want 25 at once without a read", sent, time.Since(began), reads-before)
		}
		// A single order that follows soon waits for others.
		create(t, d, 1)
		create(t, d, 1)
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if sent, _, _ := o.counts(); sent != 27 {
			t.Errorf("%d sent, want 27", sent)
		}
		create(t, d, 1_000_000) // too many for the queue
		if len(o.due) != 1_000_000 {
			t.Errorf("%d orders of a very large task wait in the outbox", len(o.due))
		}
		o.due = nil
		stop()
		create(t, d, 1)
		if len(o.due) != 1 {
			t.Errorf("%d orders wait in the outbox after the end of Run, want 1", len(o.due))
		}
	})
}

// The queue of new orders does not starve the outbox.
func TestOutboxIsReadBesidesQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{due: claims(1)}
		busy := make(chan struct{})
		var due []int // in each batch
		d, stop := run(t, o, func(orders []tasker.Order) error {
			<-busy
			cancels := 0
			for _, order := range orders {
				if order.Cancel != nil {
					cancels++
				}
			}
			due = append(due, cancels)
			return nil
		}, 10)
		defer stop()
		// All of these arrive while the first batch is being sent.
		cancel := claims(1)
		cancel[0].Cancel, cancel[0].Order.Cancel = true, &tasker.Cancel{}
		o.set(nil, cancel...)
		create(t, d, 1000)
		d.Wake()
		close(busy)
		synctest.Wait()
		if sent, _, _ := o.counts(); sent != 1002 || len(due) < 2 || due[1] != 1 {
			t.Errorf("%d sent, in batches with %v cancels; want 1002, with the cancel in the second batch", sent, due)
		}
	})
}

// While the outbox cannot be read, orders wait there. At a stop, unsent orders become due
// again.
func TestOrdersWaitInOutbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{failure: store.ErrUnavailable}
		d, stop := run(t, o, sendAll, 10)
		if _, _, err := d.CreateTask(t.Context(), store.NewTask{Endpoints: make([]string, 1)}); err == nil || len(o.due) != 1 {
			t.Errorf("in an outage of the database CreateTask returned %v and made %d orders due", err, len(o.due))
		}
		stop()

		o = &outbox{}
		ctx, cancel := context.WithCancel(t.Context())
		d = dispatch.New(dispatch.Options{Outbox: o, Batch: 10, Log: slog.New(slog.DiscardHandler), Hub: sender(func([]tasker.Order) error {
			cancel()
			return nil
		})})
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		create(t, d, 25)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		sent, unsent, _ := o.counts()
		if sent == 0 || sent+unsent != 25 {
			t.Fatalf("%d sent, %d due again, want 25 together", sent, unsent)
		}
		for _, u := range o.unsent {
			if u.After != 0 || u.Reason != "" {
				t.Errorf("due again after %s with reason %q", u.After, u.Reason)
			}
		}
	})
}

// The outbox is read without a wake-up during a stream of new tasks.
func TestOutboxIsReadDuringStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		d, stop := run(t, o, sendAll, 10)
		defer stop()
		o.set(nil, claims(1)...) // without a wake-up
		for range 20 {
			create(t, d, 1)
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the bubble's time
		}
		synctest.Wait()
		if sent, _, _ := o.counts(); sent != 21 {
			t.Errorf("%d sent after a second, want the 20 of new tasks and the one that was due", sent)
		}
	})
}
