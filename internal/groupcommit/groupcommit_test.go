package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var errItem = errors.New("the item is at fault")

// recorder is a transaction of one second that records its items. Item 13 fails it.
type recorder struct {
	ran [][]int
}

func (w *recorder) run(ctx context.Context, list []int) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	w.ran = append(w.ran, slices.Clone(list))
	if slices.Contains(list, 13) {
		return errItem
	}
	return nil
}

// doAfter calls Do with item n after this many seconds, and sends its error.
func doAfter(g *Group[int], errs chan<- error, seconds float64, n int) {
	go func() {
		time.Sleep(time.Duration(seconds * float64(time.Second))) //nolint:forbidigo // the bubble's time
		errs <- g.Do(context.Background(), n, 1)
	}()
}

func TestGroup(t *testing.T) {
	t.Parallel()
	type call struct {
		after float64
		n     int
	}
	tests := map[string]struct {
		calls     []call
		maxWeight int
		want      string
		failed    int
	}{
		"sequential calls":           {[]call{{after: 0, n: 1}, {after: 2, n: 2}}, 10, "[[1] [2]]", 0},
		"calls during a transaction": {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 3}, {after: .3, n: 4}}, 10, "[[1] [2 3 4]]", 0},
		"maximum weight":             {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 3}, {after: .3, n: 4}}, 2, "[[1] [2 3] [4]]", 0},
		"one failing item":           {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 13}}, 10, "[[1] [2 13] [2] [13]]", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w recorder
				g := New(tt.maxWeight, func(err error) bool { return errors.Is(err, errItem) }, w.run)
				errs := make(chan error)
				for _, c := range tt.calls {
					doAfter(g, errs, c.after, c.n)
				}
				failed := 0
				for range tt.calls {
					if err := <-errs; err != nil {
						failed++
					}
				}
				if got := fmt.Sprint(w.ran); got != tt.want || failed != tt.failed {
					t.Errorf("ran %s, %d failed; want %s and %d", got, failed, tt.want, tt.failed)
				}
			})
		})
	}
}

// A cancelled call withdraws its waiting item. A transaction that has begun continues
// as long as another of its callers waits.
func TestGroupWithCancelledCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w recorder
		g := New(10, func(error) bool { return false }, w.run)
		errs := make(chan error)
		doAfter(g, errs, 0, 1)
		doAfter(g, errs, .2, 3)
		cancelled := func(after time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			return g.Do(ctx, 2, 1)
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's time
		if err := cancelled(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("item waiting: %v", err)
		}
		time.Sleep(200 * time.Millisecond) //nolint:forbidigo // the bubble's time
		if err := cancelled(500 * time.Millisecond); err != nil {
			t.Errorf("transaction shared: %v", err)
		}
		must(t, <-errs)
		must(t, <-errs)
		if err := cancelled(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("transaction not shared: %v", err)
		}
		if got := fmt.Sprint(w.ran); got != "[[1] [3 2]]" {
			t.Errorf("ran %s", got)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// A panic reaches the caller that ran the transaction. The other callers get an error,
// and later calls work.
func TestGroupAfterPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(10, func(error) bool { return false }, func(_ context.Context, list []int) error {
			time.Sleep(time.Second) //nolint:forbidigo // the bubble's time
			if slices.Contains(list, 13) {
				panic("13")
			}
			return nil
		})
		errs := make(chan error)
		doAfter(g, errs, 0, 1)
		doAfter(g, errs, .2, 2)
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's time
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the caller that ran the transaction did not panic")
				}
			}()
			_ = g.Do(t.Context(), 13, 1)
		}()
		must(t, <-errs)
		if err := <-errs; !errors.Is(err, errPanicked) {
			t.Errorf("another caller: %v", err)
		}
		must(t, g.Do(t.Context(), 3, 1))
	})
}
