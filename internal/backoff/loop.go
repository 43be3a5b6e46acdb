package backoff

import (
	"context"
	"log/slog"
	"time"
)

// Loop repeats rounds: at once after Wake, else every Interval, and with back-off while
// rounds fail. NewLoop makes one.
type Loop struct {
	opts LoopOptions
	wake chan struct{}
	// probe is received from between rounds.
	probe chan struct{}
}

// LoopOptions configure NewLoop.
type LoopOptions struct {
	// Interval is the pause between rounds, unless the loop is woken.
	Interval time.Duration
	Log      *slog.Logger
	// Failing is logged with the first error of a series, Recovered when a round
	// succeeds again.
	Failing, Recovered string
}

// maxPause bounds the pause after an error.
const maxPause = 5 * time.Second

// NewLoop makes a Loop; Run starts it.
func NewLoop(o LoopOptions) *Loop {
	return &Loop{opts: o, wake: make(chan struct{}, 1), probe: make(chan struct{})}
}

// Wake starts the next round at once. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// IsAlive reports whether Run starts a round before ctx is done.
func (l *Loop) IsAlive(ctx context.Context) bool {
	select {
	case l.probe <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run repeats the round until ctx is done, and returns its error. If a round returns
// more, the next one follows at once.
func (l *Loop) Run(ctx context.Context, round func(context.Context) (more bool, err error)) error {
	retry := Policy{First: l.opts.Interval, Cap: maxPause}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		more, err := round(ctx)
		pause := l.opts.Interval
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if failures == 0 {
				l.opts.Log.Warn(l.opts.Failing, "error", err)
			}
			pause = retry.Wait(failures)
			failures++
		case failures > 0:
			l.opts.Log.Info(l.opts.Recovered)
			failures = 0
		}
		if more && err == nil {
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wake:
		case <-l.probe:
		case <-timer.C:
		}
	}
}
