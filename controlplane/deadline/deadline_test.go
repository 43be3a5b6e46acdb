package deadline_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/deadline"
)

// facts notes what a Keeper asks, by the bubble's clock.
type facts struct {
	mu sync.Mutex
	// ahead is how far the database's clock is ahead of the bubble's.
	ahead time.Duration
	// err is what the database answers; slow is how long it takes.
	err  error
	slow time.Duration
	// missing are the bounds of the calls of ExpireMissing, silent counts those of
	// ExpireSilent.
	missing []time.Time
	silent  int
}

func (f *facts) Now(context.Context) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.ahead), f.err
}

func (f *facts) ExpireMissing(ctx context.Context, after time.Time, _ int) (int, []tasker.Task, error) {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	if slow > 0 {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = append(f.missing, after)
	return 0, nil, f.err
}

func (f *facts) ExpireSilent(context.Context, time.Duration, int) (int, []tasker.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent++
	return 0, nil, f.err
}

// last is the bound of the last call; zero means that nobody is excused.
func (f *facts) last() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.missing) == 0 {
		return time.Now()
	}
	return f.missing[len(f.missing)-1]
}

// rounds is how often ExpireMissing was called.
func (f *facts) rounds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.missing)
}

func (f *facts) set(err error, slow time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.slow = err, slow
}

// wait lets the bubble's time pass.
func wait(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestWhoIsExcused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &facts{}
		var away, backlog bool
		var mu sync.Mutex
		set := func(flag *bool, to bool) {
			mu.Lock()
			defer mu.Unlock()
			*flag = to
		}
		get := func(flag *bool) bool {
			mu.Lock()
			defer mu.Unlock()
			return *flag
		}
		k := deadline.New(deadline.Options{
			Facts: f, LostAfter: time.Hour, Log: slog.New(slog.DiscardHandler),
			Away:    func() bool { return get(&away) },
			Drained: func() bool { return !get(&backlog) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- k.Run(ctx) }()

		wait(9 * time.Second)
		if at := f.last(); at.Sub(start) > time.Second || at.IsZero() {
			t.Errorf("soon after the start tasks created before %s are expired, want those since the start only", at)
		}
		if f.silent != 0 {
			t.Error("agents are called silent before they had the time to come back")
		}
		set(&backlog, true)
		wait(20 * time.Second)
		if f.last().IsZero() {
			t.Error("nobody is excused any more while reports are waiting to be stored")
		}
		set(&backlog, false)
		wait(time.Second)
		if !f.last().IsZero() || f.silent == 0 {
			t.Errorf("settled, the bound is %s and silence was looked for %d times", f.last(), f.silent)
		}

		set(&away, true)
		wait(30 * time.Second)
		if time.Since(f.last()) > time.Second {
			t.Errorf("while the transport is away tasks since %s ago are expired", time.Since(f.last()))
		}
		set(&away, false)
		wait(9 * time.Second)
		if f.last().IsZero() {
			t.Error("right after the outage everybody is expected to have reported")
		}
		wait(2 * time.Second)
		if !f.last().IsZero() {
			t.Error("long after the outage somebody is still excused")
		}

		f.set(errors.New("gone"), 0)
		wait(time.Minute)
		f.set(nil, 0)
		for before := f.rounds(); f.rounds() == before; { // the back-off of the outage ends
			wait(10 * time.Millisecond)
		}
		for range 9 {
			if f.last().IsZero() {
				t.Error("right after an outage of the database everybody is expected to have reported")
			}
			wait(time.Second)
		}
		wait(20 * time.Second)
		f.set(nil, time.Hour)
		wait(8 * time.Second)
		f.set(nil, 0)
		wait(5 * time.Second)
		if f.last().IsZero() {
			t.Error("after a database that stood still everybody is expected to have reported")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
}

// When a machine goes on that was suspended, or when a clock is set, the database's
// clock has gone on and this process's has not: nobody had the time to report.
func TestTimeThatHasNotPassedHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &facts{}
		k := deadline.New(deadline.Options{
			Facts: f, LostAfter: time.Hour, Log: slog.New(slog.DiscardHandler), Drained: func() bool { return true },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		wait(time.Minute)
		if !f.last().IsZero() {
			t.Error("long after the start somebody is still excused")
		}
		for _, ahead := range []time.Duration{2 * time.Hour, 0} { // and back
			f.mu.Lock()
			f.ahead = ahead
			before := len(f.missing)
			f.mu.Unlock()
			wait(9 * time.Second)
			f.mu.Lock()
			for _, bound := range f.missing[before:] {
				if bound.IsZero() != (ahead == 0) {
					t.Errorf("after the clock was set %s ahead tasks created before %s are excused", ahead, bound)
					break
				}
			}
			f.mu.Unlock()
			wait(9 * time.Second)
			if !f.last().IsZero() {
				t.Error("long after that somebody is still excused")
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
}
