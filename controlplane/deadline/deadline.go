// Package deadline ends what has passed its deadline: responses that were not received
// become missing, responses of silent agents become interrupted, and broadcasts close.
// Deadlines are stored and judged by the database's clock, so they outlive a control
// plane, and several control planes may run this.
package deadline

import (
	"context"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Store is the part of the store that keeps the deadlines.
type Store interface {
	Now(ctx context.Context) (time.Time, error)
	ExpireMissing(ctx context.Context, createdAfter time.Time, limit int) (int, []tasker.Task, error)
	ExpireSilent(ctx context.Context, after time.Duration, limit int) (int, []tasker.Task, error)
}

// Options configure New.
type Options struct {
	Store Store
	// IsBlocked reports whether orders or reports are delayed by the control plane: the
	// transport is not connected, or the database is unavailable. Nil means never.
	IsBlocked func() bool
	// IsDrained reports whether the reports that waited during an outage are stored.
	IsDrained func() bool
	// LostAfter is how long an agent may be silent.
	LostAfter time.Duration
	// Interval is the pause between checks; 250 ms when zero.
	Interval time.Duration
	// Grace is the least time after an outage, or after the start, for which responses
	// are excused that were due during it; 10 s when zero.
	Grace time.Duration
	Log   *slog.Logger
	// Finished receives the tasks that finished. It must not block, and may be nil.
	Finished func([]tasker.Task)
}

// Keeper enforces the deadlines.
type Keeper struct {
	opts   Options
	excuse excuse

	// lastRound is when the last round ended, lastSilent when silent agents were last
	// looked for.
	lastRound, lastSilent time.Time
	// databaseTime was the database's clock at readAt of this process's clock.
	databaseTime, readAt time.Time
}

// limit bounds one transaction.
const limit = 500

// silentInterval is how often silent agents are looked for; LostAfter is far longer.
const silentInterval = 5 * time.Second

// maxDelay is how long a step of a round may take, how late a round may begin, and how
// far the database's clock may get ahead of this process's. Beyond that the database, the
// process or the machine stood still, and reports may be waiting.
const maxDelay = 5 * time.Second

// New makes a Keeper; Run starts it. The time before the start counts as an
// outage.
func New(opts Options) *Keeper {
	if opts.Interval == 0 {
		opts.Interval = 250 * time.Millisecond
	}
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	if opts.IsBlocked == nil {
		opts.IsBlocked = func() bool { return false }
	}
	if opts.Finished == nil {
		opts.Finished = func([]tasker.Task) {}
	}
	return &Keeper{opts: opts, excuse: excuse{grace: opts.Grace, isDrained: opts.IsDrained}}
}

// Outage must be called in or after an outage of broker or database: reports may be
// waiting, so responses without a report are not missing yet.
func (k *Keeper) Outage() { k.excuse.restart() }

// Run enforces the deadlines until ctx is done, and returns its error.
func (k *Keeper) Run(ctx context.Context) error {
	k.Outage()
	k.lastRound = time.Now()
	return backoff.NewLoop(backoff.LoopOptions{
		Interval: k.opts.Interval, Log: k.opts.Log,
		Failing: "deadlines cannot be kept; trying again", Recovered: "deadlines are kept again",
	}).Run(ctx, func(ctx context.Context) (bool, error) {
		if time.Since(k.lastRound) > k.opts.Interval+maxDelay {
			k.Outage()
		}
		err := k.round(ctx)
		if err != nil {
			k.Outage()
		}
		k.lastRound = time.Now()
		return false, err
	})
}

// round expires everything that is due to expire.
func (k *Keeper) round(ctx context.Context) error {
	createdAfter, err := k.createdAfter(ctx)
	if err != nil {
		return err
	}
	err = k.repeat(ctx, func(ctx context.Context) (int, []tasker.Task, error) {
		return k.opts.Store.ExpireMissing(ctx, createdAfter, limit)
	})
	if err != nil || time.Since(k.lastSilent) < silentInterval {
		return err
	}
	if createdAfter.IsZero() { // else agents may still be reconnecting
		err = k.repeat(ctx, func(ctx context.Context) (int, []tasker.Task, error) {
			return k.opts.Store.ExpireSilent(ctx, k.opts.LostAfter, limit)
		})
	}
	if err == nil {
		k.lastSilent = time.Now()
	}
	return err
}

// repeat repeats a bounded step until it finds nothing more. A step fails after maxDelay:
// when a stalled database continues, reports continue as well, and the step would expire
// responses that are being reported on at that moment.
func (k *Keeper) repeat(ctx context.Context, step func(context.Context) (int, []tasker.Task, error)) error {
	bounded := func() (int, []tasker.Task, error) {
		ctx, cancel := context.WithTimeout(ctx, maxDelay)
		defer cancel()
		return step(ctx)
	}
	for {
		n, finished, err := bounded()
		if err != nil {
			return err
		}
		if len(finished) > 0 {
			k.opts.Finished(finished)
		}
		if n < limit {
			return nil
		}
	}
}

// createdAfter returns the time, by the database's clock, up to which tasks that were
// created are excused; zero excuses none.
func (k *Keeper) createdAfter(ctx context.Context) (time.Time, error) {
	if k.opts.IsBlocked() {
		k.Outage()
	}
	now, err := k.databaseNow(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return k.excuse.createdAfter(now), nil
}

// databaseNow reads the database's clock. If it has advanced further than this process's,
// the machine was suspended, which stops this process's clock, or a clock was set.
func (k *Keeper) databaseNow(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, maxDelay)
	defer cancel()
	now, err := k.opts.Store.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !k.readAt.IsZero() && now.Sub(k.databaseTime)-time.Since(k.readAt) > maxDelay {
		k.Outage()
	}
	k.databaseTime, k.readAt = now, time.Now()
	return now, nil
}
