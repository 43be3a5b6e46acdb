package backoff_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

func TestRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		var told []string
		r := backoff.Rounds{
			Poll: time.Minute, Wake: wake,
			Failing: func(err error) { told = append(told, err.Error()) }, Mended: func() { told = append(told, "mended") },
		}
		began := time.Now()
		n := 0
		err := r.Run(ctx, func(context.Context) (bool, error) {
			since := time.Since(began)
			n++
			switch n {
			case 1: // there is more
				return true, nil
			case 2:
				if since != 0 {
					t.Errorf("more was looked for after %v", since)
				}
				wake <- struct{}{}
			case 3:
				if since != 0 {
					t.Errorf("woken, it was looked after %v", since)
				}
			case 4, 5:
				if n == 4 && since != time.Minute {
					t.Errorf("it was looked again after %v", since)
				}
				return true, errors.New("away")
			case 6:
				if since > time.Minute+10*time.Second {
					t.Errorf("two errors took until %v", since)
				}
			case 7:
				stop()
			}
			return false, nil
		})
		if !errors.Is(err, context.Canceled) || n != 7 || !slices.Equal(told, []string{"away", "mended"}) {
			t.Errorf("%v after %d rounds, told %v", err, n, told)
		}
	})
}
