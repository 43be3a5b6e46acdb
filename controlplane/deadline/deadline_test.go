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

// fakeStore records the calls of a Keeper, by the bubble's clock.
type fakeStore struct {
	mu sync.Mutex
	// ahead is how far the database's clock is ahead of the bubble's.
	ahead time.Duration
	// err is the database's error. While stalled, calls end with their context.
	err     error
	stalled bool
	// missing are the bounds of the calls of ExpireMissing, silent counts those of
	// ExpireSilent.
	missing []time.Time
	silent  int
}

func (f *fakeStore) Now(context.Context) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.ahead), f.err
}

func (f *fakeStore) ExpireMissing(ctx context.Context, after time.Time, _ int) (int, []tasker.Task, error) {
	f.mu.Lock()
	stalled := f.stalled
	f.mu.Unlock()
	if stalled {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = append(f.missing, after)
	return 0, nil, f.err
}

func (f *fakeStore) ExpireSilent(context.Context, time.Duration, int) (int, []tasker.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent++
	return 0, nil, f.err
}

// bound returns createdAfter of the last call; zero excuses no task.
func (f *fakeStore) bound() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.missing) == 0 {
		return time.Now()
	}
	return f.missing[len(f.missing)-1]
}

// rounds returns how often ExpireMissing was called.
func (f *fakeStore) rounds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.missing)
}

func (f *fakeStore) set(err error, stalled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.stalled = err, stalled
}

// sleep lets the bubble's time pass.
func sleep(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestOutageExcusesTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		var blocked, backlog bool
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
			Store: f, LostAfter: time.Hour, Log: slog.New(slog.DiscardHandler),
			IsBlocked: func() bool { return get(&blocked) },
			IsDrained: func() bool { return !get(&backlog) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- k.Run(ctx) }()

		sleep(9 * time.Second)
		if at := f.bound(); at.Sub(start) > time.Second || at.IsZero() {
			t.Errorf("soon after the start tasks created up to %s are excused, want those up to the start", at)
		}
		if f.silent != 0 {
			t.Error("silent agents are expired before they had time to reconnect")
		}
		set(&backlog, true)
		sleep(20 * time.Second)
		if f.bound().IsZero() {
			t.Error("no task is excused while reports wait to be stored")
		}
		set(&backlog, false)
		sleep(time.Second)
		if !f.bound().IsZero() || f.silent == 0 {
			t.Errorf("after the grace tasks up to %s are excused, and silent agents were looked for %d times", f.bound(), f.silent)
		}

		set(&blocked, true)
		sleep(30 * time.Second)
		if time.Since(f.bound()) > time.Second {
			t.Errorf("while the transport is blocked, only tasks created %s ago or earlier are excused", time.Since(f.bound()))
		}
		set(&blocked, false)
		sleep(9 * time.Second)
		if f.bound().IsZero() {
			t.Error("right after the outage no task is excused")
		}
		sleep(2 * time.Second)
		if !f.bound().IsZero() {
			t.Error("long after the outage tasks are still excused")
		}

		f.set(errors.New("unavailable"), false)
		sleep(time.Minute)
		f.set(nil, false)
		for before := f.rounds(); f.rounds() == before; { // the back-off of the outage ends
			sleep(10 * time.Millisecond)
		}
		for range 9 {
			if f.bound().IsZero() {
				t.Error("right after an outage of the database no task is excused")
			}
			sleep(time.Second)
		}
		sleep(20 * time.Second)
		f.set(nil, true)
		sleep(8 * time.Second)
		f.set(nil, false)
		sleep(5 * time.Second)
		if f.bound().IsZero() {
			t.Error("after a stall of the database no task is excused")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
}

// After a machine was suspended, or a clock was set, the database's clock has advanced
// further than this process's: agents had no time to report.
func TestClockJumpExcusesTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		k := deadline.New(deadline.Options{
			Store: f, LostAfter: time.Hour, Log: slog.New(slog.DiscardHandler), IsDrained: func() bool { return true },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		sleep(time.Minute)
		if !f.bound().IsZero() {
			t.Error("long after the start tasks are still excused")
		}
		for _, ahead := range []time.Duration{2 * time.Hour, 0} { // and back
			f.mu.Lock()
			f.ahead = ahead
			before := len(f.missing)
			f.mu.Unlock()
			sleep(9 * time.Second)
			f.mu.Lock()
			for _, bound := range f.missing[before:] {
				if bound.IsZero() != (ahead == 0) {
					t.Errorf("after the clock was set %s ahead, tasks created up to %s are excused", ahead, bound)
					break
				}
			}
			f.mu.Unlock()
			sleep(9 * time.Second)
			if !f.bound().IsZero() {
				t.Error("long after that tasks are still excused")
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
}
