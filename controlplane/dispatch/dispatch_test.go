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

// outbox is a database that can be unavailable, with claims that are due at once.
type outbox struct {
	mu      sync.Mutex
	failure error
	due     []store.Claim
	sent    []store.Claim
	unsent  []store.Unsent
	reads   int
}

// CreateTask makes the orders due, and does not wake the dispatcher.
func (o *outbox) CreateTask(_ context.Context, n store.NewTask) (tasker.Task, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due = append(o.due, claims(len(n.Endpoints))...)
	return tasker.Task{}, true, o.failure
}

func (o *outbox) CreateClaimed(_ context.Context, n store.NewTask) (tasker.Task, bool, []store.Claim, error) {
	return tasker.Task{}, true, claims(len(n.Endpoints)), nil
}

func (o *outbox) ClaimDue(_ context.Context, limit int) ([]store.Claim, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reads++
	if o.failure != nil {
		return nil, o.failure
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

// set makes orders due; failure is the database's error from now on.
func (o *outbox) set(failure error, due ...store.Claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failure, o.due = failure, append(o.due, due...)
}

func (o *outbox) counts() (sent, unsent, reads int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent), len(o.unsent), o.reads
}

// sender is a transport whose Send it implements.
type sender func(orders []tasker.Order) error

func (s sender) Send(_ context.Context, orders ...tasker.Order) error { return s(orders) }

func claims(n int) []store.Claim { return make([]store.Claim, n) }

// create creates a task with n orders.
func create(t *testing.T, d *dispatch.Dispatcher, n int) {
	t.Helper()
	if _, _, err := d.CreateTask(t.Context(), store.NewTask{Endpoints: make([]string, n)}); err != nil {
		t.Errorf("CreateTask: %v", err)
	}
}

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

func sendAll([]tasker.Order) error { return nil }

func TestFullBatchesFollowWithoutPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{due: claims(25)}
		began := time.Now()
		_, stop := run(t, o, sendAll, 10)
		defer stop()
		if sent, unsent, _ := o.counts(); sent != 25 || unsent != 0 || !time.Now().Equal(began) {
			t.Errorf("%d sent, %d unsent after %s, want 25 at once", sent, unsent, time.Since(began))
		}
	})
}

// A wake-up ends the back-off of an outage, however long it has become: it shows that
// this process could write to the database.
func TestWakeEndsBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{failure: store.ErrUnavailable}
		d, stop := run(t, o, sendAll, 10)
		defer stop()
		if !d.IsFailing() {
			t.Error("not failing while the database is unavailable")
		}
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if _, _, reads := o.counts(); reads < 60 || reads > 600 {
			t.Errorf("%d reads in 5 minutes of outage, want back-off with a cap of seconds", reads)
		}
		o.set(nil, claims(1)...)
		began := time.Now()
		d.Wake()
		synctest.Wait()
		if sent, _, _ := o.counts(); sent != 1 || d.IsFailing() || !time.Now().Equal(began) {
			t.Errorf("after the outage %d sent, failing: %t, want 1 at once", sent, d.IsFailing())
		}
	})
}

func TestIsAliveInOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{failure: store.ErrUnavailable}
		d, stop := run(t, o, sendAll, 10)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's time
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !d.IsAlive(ctx) {
			t.Error("not alive in an outage")
		}
		stop()
		if d.IsAlive(ctx) {
			t.Error("alive after its end")
		}
	})
}

// An order to an absent endpoint is tried ever more rarely. If the control plane has no
// broker, the next try comes within the time that package deadline excuses.
func TestRetryOfUnsentOrder(t *testing.T) {
	t.Parallel()
	const tries = 20
	tests := map[string]struct {
		err       error
		reason    string
		maybeSent bool
		max, min  time.Duration
	}{
		"offline":    {transport.ErrOffline, "offline", false, 30 * time.Second, 10 * time.Second},
		"unroutable": {transport.ErrUnroutable, "unroutable: ", false, 30 * time.Second, 10 * time.Second},
		"refused":    {transport.ErrRefused, "refused", false, 5 * time.Second, time.Second},
		"no broker":  {errors.New("no connection"), "no connection", true, 5 * time.Second, time.Second},
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
					if u.MaybeSent != tt.maybeSent {
						t.Fatalf("may have been sent: %t, want %t", u.MaybeSent, tt.maybeSent)
					}
				}
				if longest > tt.max || longest < tt.min {
					t.Errorf("tried again after up to %s, want up to %s", longest, tt.max)
				}
			})
		})
	}
}

// A sent order is recorded even if the process is stopped meanwhile.
func TestStopRecordsSentOrders(t *testing.T) {
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
		if sent, _, _ := o.counts(); sent != 3 {
			t.Errorf("%d recorded as sent, want 3", sent)
		}
	})
}
