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

var errWork = errors.New("the work is at fault")

// works runs works for a second each time, and fails where one of them is bad.
type works struct {
	ran [][]int
}

func (w *works) run(ctx context.Context, list []int) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	w.ran = append(w.ran, slices.Clone(list))
	if slices.Contains(list, 13) {
		return errWork
	}
	return nil
}

// at does n after so many seconds of the bubble's time, and gives the error.
func at(g *Group[int], errs chan<- error, after float64, n int) {
	go func() {
		time.Sleep(time.Duration(after * float64(time.Second))) //nolint:forbidigo // the bubble's time
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
		calls  []call
		most   int
		want   string
		failed int
	}{
		"one by one":         {[]call{{after: 0, n: 1}, {after: 2, n: 2}}, 10, "[[1] [2]]", 0},
		"what comes during":  {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 3}, {after: .3, n: 4}}, 10, "[[1] [2 3 4]]", 0},
		"no more than most":  {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 3}, {after: .3, n: 4}}, 2, "[[1] [2 3] [4]]", 0},
		"fault of one alone": {[]call{{after: 0, n: 1}, {after: .1, n: 2}, {after: .2, n: 13}}, 10, "[[1] [2 13] [2] [13]]", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w works
				g := New(tt.most, func(err error) bool { return errors.Is(err, errWork) }, w.run)
				errs := make(chan error)
				for _, c := range tt.calls {
					at(g, errs, c.after, c.n)
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

// Who goes while its work waits takes it along; while it is under way, it is
// done as long as somebody else waits for it.
func TestGroupOfThoseWhoGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w works
		g := New(10, func(error) bool { return false }, w.run)
		errs := make(chan error)
		at(g, errs, 0, 1)
		at(g, errs, .2, 3)
		gone := func(after time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			return g.Do(ctx, 2, 1)
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's time
		if err := gone(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting: %v", err)
		}
		time.Sleep(200 * time.Millisecond) //nolint:forbidigo // the bubble's time
		if err := gone(500 * time.Millisecond); err != nil {
			t.Errorf("under way with another: %v", err)
		}
		must(t, <-errs)
		must(t, <-errs)
		if err := gone(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("under way alone: %v", err)
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

// A panic is that of the caller who did the work: the others are told, and the
// next ones are not held up.
func TestGroupAfterAPanic(t *testing.T) {
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
		at(g, errs, 0, 1)
		at(g, errs, .2, 2)
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's time
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is not the caller's")
				}
			}()
			_ = g.Do(t.Context(), 13, 1)
		}()
		must(t, <-errs)
		if err := <-errs; !errors.Is(err, errBroken) {
			t.Errorf("another one's work: %v", err)
		}
		must(t, g.Do(t.Context(), 3, 1))
	})
}
