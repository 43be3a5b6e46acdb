package wire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// TestReconnectWaits measures the waits between sessions that fail for the same reason.
func TestReconnectWaits(t *testing.T) {
	t.Parallel()
	unavailable, unauthorized := transport.ErrUnavailable, fmt.Errorf("connect: %w", transport.ErrUnauthorized)
	for name, tt := range map[string]struct {
		err        error
		slow       bool
		lasts      time.Duration // of each session
		first, cap time.Duration // the bounds of the back-off
	}{
		"unavailable":                  {err: unavailable, first: 500 * time.Millisecond, cap: 10 * time.Second},
		"unavailable, slow":            {err: unavailable, slow: true, first: 500 * time.Millisecond, cap: 10 * time.Second},
		"unauthorized":                 {err: unauthorized, first: 500 * time.Millisecond, cap: 10 * time.Second},
		"unauthorized, slow":           {err: unauthorized, slow: true, first: 4 * time.Second, cap: time.Minute},
		"after sessions of 10 seconds": {err: unavailable, lasts: 10 * time.Second, first: 500 * time.Millisecond, cap: 10 * time.Second},
		"after stable sessions":        {err: unavailable, lasts: 11 * time.Second, first: 500 * time.Millisecond, cap: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const sessions = 12
				ctx, cancel := context.WithCancel(t.Context())
				var waits []time.Duration
				var ended time.Time
				wire.Reconnect(ctx, tt.slow, func(context.Context) error {
					if !ended.IsZero() {
						waits = append(waits, time.Since(ended))
					}
					time.Sleep(tt.lasts) //nolint:forbidigo // the bubble's time
					if len(waits) == sessions {
						cancel()
					}
					return tt.err
				}, func(err error) {
					if !errors.Is(err, tt.err) {
						t.Errorf("ended was called with %v, want %v", err, tt.err)
					}
					ended = time.Now()
				})
				bound := tt.first
				for i, wait := range waits {
					if wait < tt.first/2 || wait > bound {
						t.Errorf("wait %d took %s, want %s to %s", i, wait, tt.first/2, bound)
					}
					bound = min(2*bound, tt.cap)
				}
			})
		})
	}
}

// TestDeliverWaits measures the waits between the attempts to deliver a batch.
func TestDeliverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const first, highest, attempts = 100 * time.Millisecond, 5 * time.Second, 12
		tried, bound, n := time.Now(), time.Duration(0), 0
		err := wire.Signal(t.Context(), t.Context(), slog.New(slog.DiscardHandler), func(context.Context, []string) error {
			if wait := time.Since(tried); n > 0 && (wait < first/2 || wait > bound) {
				t.Errorf("wait %d took %s, want %s to %s", n, wait, first/2, bound)
			}
			tried, bound = time.Now(), min(max(first, 2*bound), highest)
			if n++; n == attempts {
				return nil
			}
			return errors.New("cannot store")
		})
		if err != nil || n != attempts {
			t.Errorf("%d attempts, %v; want %d", n, err, attempts)
		}
	})
}

// TestPauseEnds checks that a pause ends with its context or its session, for the cause of
// that.
func TestPauseEnds(t *testing.T) {
	t.Parallel()
	cause := errors.New("the reason")
	ended, end := context.WithCancelCause(t.Context())
	end(cause)
	if err := wire.Pause(ended, t.Context(), wire.Redelivery(), 0); !errors.Is(err, cause) {
		t.Errorf("after the end of the context: %v, want %v", err, cause)
	}
	if err := wire.Pause(t.Context(), ended, wire.Redelivery(), 0); !errors.Is(err, cause) {
		t.Errorf("after the end of the session: %v, want %v", err, cause)
	}
}
