package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/dispatch"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// outbox is a database that can be away, with claims that are due at once.
type outbox struct {
	mu     sync.Mutex
	away   error
	due    []store.Claim
	sent   []store.Claim
	unsent []store.Unsent
	looked int
}

func (o *outbox) ClaimDue(_ context.Context, limit int) ([]store.Claim, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looked++
	if o.away != nil {
		return nil, o.away
	}
	n := min(limit, len(o.due))
	claims := o.due[:n]
	o.due = o.due[n:]
	return claims, nil
}

func (o *outbox) MarkSent(ctx context.Context, claims []store.Claim) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, claims...)
	return ctx.Err()
}

func (o *outbox) MarkUnsent(_ context.Context, unsent []store.Unsent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unsent = append(o.unsent, unsent...)
	return nil
}

// set makes orders due; away is what the database answers from now on.
func (o *outbox) set(away error, due ...store.Claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away, o.due = away, append(o.due, due...)
}

func (o *outbox) seen() (sent, unsent, looked int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent), len(o.unsent), o.looked
}

// sender answers every Send with what it says.
type sender func(orders []tasker.Order) error

func (s sender) Send(_ context.Context, orders ...tasker.Order) error { return s(orders) }

func claims(n int) []store.Claim { return make([]store.Claim, n) }

// run starts a Dispatcher in the bubble of t; the returned function ends it.
func run(t *testing.T, o *outbox, send sender, batch int) (*dispatch.Dispatcher, func()) {
	t.Helper()
	d := dispatch.New(dispatch.Options{Outbox: o, Hub: send, Log: slog.New(slog.DiscardHandler), Batch: batch})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	synctest.Wait()
	return d, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	}
}

func all([]tasker.Order) error { return nil }

func TestMoreThanABatchIsSentWithoutAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{due: claims(25)}
		began := time.Now()
		_, stop := run(t, o, all, 10)
		defer stop()
		if sent, unsent, _ := o.seen(); sent != 25 || unsent != 0 || !time.Now().Equal(began) {
			t.Errorf("%d sent, %d unsent after %s, want 25 at once", sent, unsent, time.Since(began))
		}
	})
}

// An outage of the database is waited out, and over as soon as somebody in this
// process could write again, however long the back-off has become.
func TestWakeEndsTheBackOffOfAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{away: store.ErrUnavailable}
		d, stop := run(t, o, all, 10)
		defer stop()
		if !d.Failing() {
			t.Error("not failing while the database is away")
		}
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if _, _, looked := o.seen(); looked < 60 || looked > 600 {
			t.Errorf("looked %d times in 5 minutes of outage, want back-off with a cap of seconds", looked)
		}
		o.set(nil, claims(1)...)
		began := time.Now()
		d.Wake()
		synctest.Wait()
		if sent, _, _ := o.seen(); sent != 1 || d.Failing() || !time.Now().Equal(began) {
			t.Errorf("after the outage %d sent, failing: %t, want 1 at once", sent, d.Failing())
		}
	})
}

func TestAliveWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{away: store.ErrUnavailable}
		d, stop := run(t, o, all, 10)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's time
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !d.Alive(ctx) {
			t.Error("not alive in an outage")
		}
		stop()
		if d.Alive(ctx) {
			t.Error("alive after its end")
		}
	})
}

// An endpoint that is not there is tried ever more rarely; where the control
// plane itself is cut off, the next try comes within what deadline excuses.
func TestWhenAnUnsentOrderIsTriedAgain(t *testing.T) {
	t.Parallel()
	const tries = 20
	tests := map[string]struct {
		err        error
		reason     string
		most, some time.Duration
	}{
		"offline":    {transport.ErrOffline, "offline", 30 * time.Second, 10 * time.Second},
		"unroutable": {transport.ErrUnroutable, "unroutable: ", 30 * time.Second, 10 * time.Second},
		"cut off":    {errors.New("broker is away"), "broker is away", 5 * time.Second, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &outbox{due: claims(100)}
				for i := range o.due {
					o.due[i].Tries = tries
				}
				_, stop := run(t, o, func(orders []tasker.Order) error {
					failed := map[int]error{}
					for i := range orders[1:] {
						failed[i+1] = tt.err
					}
					return &transport.SendError{Failed: failed}
				}, 100)
				stop()
				if len(o.sent) != 1 || len(o.unsent) != 99 {
					t.Fatalf("%d sent, %d unsent, want 1 and 99", len(o.sent), len(o.unsent))
				}
				var longest time.Duration
				for _, u := range o.unsent {
					longest = max(longest, u.After)
					if len(u.Reason) < len(tt.reason) || u.Reason[:len(tt.reason)] != tt.reason {
						t.Fatalf("reason %q, want %q", u.Reason, tt.reason)
					}
				}
				if longest > tt.most || longest < tt.some {
					t.Errorf("tried again after up to %s, want up to %s", longest, tt.most)
				}
			})
		})
	}
}

// What was sent is written down even when the process is told to stop meanwhile.
func TestStopAfterSendIsWrittenDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{due: claims(3)}
		ctx, cancel := context.WithCancel(t.Context())
		d := dispatch.New(dispatch.Options{Outbox: o, Log: slog.New(slog.DiscardHandler), Hub: sender(func([]tasker.Order) error {
			cancel()
			return nil
		})})
		if err := d.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		if sent, _, _ := o.seen(); sent != 3 {
			t.Errorf("%d written down as sent, want 3", sent)
		}
	})
}

// What this process has stored is sent without a look at the outbox.
func TestHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		d, stop := run(t, o, all, 10)
		_, _, before := o.seen()
		if !d.Takes(25) {
			t.Error("takes nothing")
		}
		began := time.Now()
		d.Hand(claims(25))
		synctest.Wait()
		if sent, _, looked := o.seen(); sent != 25 || looked != before || !time.Now().Equal(began) {
			t.Errorf("%d sent after %s, looked %d times, want 25 at once without a look", sent, time.Since(began), looked-before)
		}
		// What is alone soon after it waits for a moment for company.
		d.Hand(claims(1))
		d.Hand(claims(1))
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if sent, _, _ := o.seen(); sent != 27 {
			t.Errorf("%d sent, want 27", sent)
		}
		if d.Takes(1_000_000) {
			t.Error("takes any number")
		}
		stop()
		if d.Takes(1) {
			t.Error("takes orders after its end")
		}
	})
}

// What is due in the outbox is not held up by what is handed over.
func TestDueBesidesHandedOver(t *testing.T) {
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
		// All of it comes while the first batch is being sent.
		cancel := claims(1)
		cancel[0].Cancel, cancel[0].Order.Cancel = true, &tasker.Cancel{}
		o.set(nil, cancel...)
		d.Hand(claims(1000))
		d.Wake()
		close(busy)
		synctest.Wait()
		if sent, _, _ := o.seen(); sent != 1002 || len(due) < 2 || due[1] != 1 {
			t.Errorf("%d sent, in batches with %v of what is due; want 1002, with it in the second batch", sent, due)
		}
	})
}

// While the database is away orders wait there; at a stop what was not sent is
// given back.
func TestNotHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{away: store.ErrUnavailable}
		d, stop := run(t, o, all, 10)
		if d.Takes(1) {
			t.Error("takes orders while the database is away")
		}
		stop()

		o = &outbox{}
		ctx, cancel := context.WithCancel(t.Context())
		d = dispatch.New(dispatch.Options{Outbox: o, Batch: 10, Log: slog.New(slog.DiscardHandler), Hub: sender(func([]tasker.Order) error {
			cancel()
			return nil
		})})
		d.Hand(claims(25))
		if err := d.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		sent, unsent, _ := o.seen()
		if sent == 0 || sent+unsent != 25 {
			t.Fatalf("%d sent, %d given back, want 25 together", sent, unsent)
		}
		for _, u := range o.unsent {
			if u.After != 0 || u.Reason != "" {
				t.Errorf("given back after %s with reason %q", u.After, u.Reason)
			}
		}
	})
}

// What becomes due by itself is found while orders are handed over all the time.
func TestDueInAStreamOfHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		d, stop := run(t, o, all, 10)
		defer stop()
		o.set(nil, claims(1)...) // nobody wakes for it
		for range 20 {
			d.Hand(claims(1))
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the bubble's time
		}
		synctest.Wait()
		if sent, _, _ := o.seen(); sent != 21 {
			t.Errorf("%d sent after a second, want the 20 handed over and the one that was due", sent)
		}
	})
}
