package backoff_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	p := backoff.Policy{First: time.Second, Cap: 30 * time.Second}
	bounds := []time.Duration{1, 2, 4, 8, 16, 30, 30}
	for tries, bound := range bounds {
		seen := map[time.Duration]bool{}
		for range 200 {
			w := p.Wait(tries)
			if w < p.First/2 || w > bound*time.Second {
				t.Fatalf("Wait(%d) = %s, want between %s and %s", tries, w, p.First/2, bound*time.Second)
			}
			seen[w] = true
		}
		if len(seen) < 10 {
			t.Errorf("Wait(%d) returned %d different waits of 200: no jitter", tries, len(seen))
		}
	}
	if w := p.Wait(1 << 20); w > p.Cap {
		t.Errorf("Wait after very many tries = %s, want at most %s", w, p.Cap)
	}
	if w := (backoff.Policy{}).Wait(3); w != 0 {
		t.Errorf("the zero policy waits %s", w)
	}
}

func TestSleepEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := backoff.Policy{First: time.Hour, Cap: time.Hour}
	if err := p.Sleep(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Sleep = %v, want context.Canceled", err)
	}
}
