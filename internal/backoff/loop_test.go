package backoff_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

func TestLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var log strings.Builder
		loop := backoff.NewLoop(backoff.LoopOptions{
			Interval: time.Minute, Failing: "failing", Recovered: "recovered", Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		began := time.Now()
		n := 0
		err := loop.Run(ctx, func(context.Context) (bool, error) {
			since := time.Since(began)
			n++
			switch n {
			case 1: // there is more
				return true, nil
			case 2:
				if since != 0 {
					t.Errorf("the round after one with more began after %v", since)
				}
				loop.Wake()
			case 3:
				if since != 0 {
					t.Errorf("the round after a wake-up began after %v", since)
				}
			case 4, 5:
				if n == 4 && since != time.Minute {
					t.Errorf("the round after a pause began after %v", since)
				}
				return true, errors.New("unavailable")
			case 6:
				if since > time.Minute+10*time.Second {
					t.Errorf("two errors took until %v", since)
				}
			case 7:
				stop()
			}
			return false, nil
		})
		if !errors.Is(err, context.Canceled) || n != 7 {
			t.Errorf("%v after %d rounds", err, n)
		}
		logged := log.String()
		if strings.Count(logged, "msg=") != 2 || !strings.Contains(logged, "level=WARN msg=failing error=unavailable") || !strings.Contains(logged, "level=INFO msg=recovered") {
			t.Errorf("log:\n%s", logged)
		}
	})
}
