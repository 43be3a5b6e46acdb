// Package deadline turns deadlines that have passed into facts: responses that
// were not received become missing, those of agents that fell silent become
// interrupted, and broadcasts close. Deadlines are stored and the database's
// clock decides, so they outlive any control plane, and several may run this.
package deadline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Facts is the part of the store that knows the deadlines.
type Facts interface {
	Now(ctx context.Context) (time.Time, error)
	ExpireMissing(ctx context.Context, createdAfter time.Time, limit int) (int, []tasker.Task, error)
	ExpireSilent(ctx context.Context, after time.Duration, limit int) (int, []tasker.Task, error)
}

// Options say what a Keeper works with.
type Options struct {
	Facts Facts
	// Away says whether orders or reports are held up on the control plane's side:
	// the transport is away, or what it brought cannot be stored. Nil is never.
	Away func() bool
	// Drained says whether the reports that waited during an outage are stored.
	Drained func() bool
	// LostAfter is how long an agent may be silent.
	LostAfter time.Duration
	// Every is how often deadlines are looked at; 250 ms when zero.
	Every time.Duration
	// Settle is how long, at least, an outage (and the time before the start)
	// excuses those who did not report, from its end on; 10 s when zero.
	Settle time.Duration
	Log    *slog.Logger
	// Finished is told the tasks that ended; it must not block.
	Finished func([]tasker.Task)
}

// Keeper watches the deadlines.
type Keeper struct {
	opts Options

	mu sync.Mutex
	// settling: tasks created before excused, the end of the outage by the
	// database's clock, are not expired until settled. Both are zero until the end
	// is known.
	settling bool
	settled  time.Time
	excused  time.Time

	// now was the database's clock when it was asked last, at asked by this process's.
	now, asked time.Time
}

// limit bounds one transaction.
const limit = 500

// silence is how often silent agents are looked for; LostAfter is far longer.
const silence = 5 * time.Second

// held is how long a step of a round may take, how late a round may begin, and how
// far the database's clock may get ahead of this process's: beyond that, database,
// process or machine stood still, and reports may be waiting.
const held = 5 * time.Second

// New makes a Keeper; Run starts it. The time before the start counts as an
// outage.
func New(opts Options) *Keeper {
	if opts.Every == 0 {
		opts.Every = 250 * time.Millisecond
	}
	if opts.Settle == 0 {
		opts.Settle = 10 * time.Second
	}
	return &Keeper{opts: opts}
}

// Outage says that there is, or was until now, an outage of broker or database:
// reports may be waiting, so who has not reported yet is not missing yet.
func (k *Keeper) Outage() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settling, k.excused, k.settled = true, time.Time{}, time.Time{}
}

// Run keeps the deadlines until ctx is done, and returns its error.
func (k *Keeper) Run(ctx context.Context) error {
	k.Outage()
	tick := time.NewTicker(k.opts.Every)
	defer tick.Stop()
	wait := backoff.Policy{First: k.opts.Every, Cap: 10 * time.Second}
	var looked time.Time
	ended := time.Now()
	for failures := 0; ; {
		if time.Since(ended) > k.opts.Every+held {
			k.Outage()
		}
		err := k.round(ctx, time.Since(looked) >= silence)
		ended = time.Now()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			k.Outage()
			if failures == 0 {
				k.opts.Log.Warn("deadlines cannot be kept; trying again", "error", err)
			}
			if err := wait.Sleep(ctx, failures); err != nil {
				return err
			}
			failures++
			continue
		case failures > 0:
			failures = 0
			k.opts.Log.Info("deadlines are kept again")
		}
		if time.Since(looked) >= silence {
			looked = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// round ends what is due to end.
func (k *Keeper) round(ctx context.Context, silent bool) error {
	after, err := k.createdAfter(ctx)
	if err != nil {
		return err
	}
	err = k.all(ctx, func(ctx context.Context) (int, []tasker.Task, error) {
		return k.opts.Facts.ExpireMissing(ctx, after, limit)
	})
	if err != nil || !silent || !after.IsZero() {
		return err // while settling, agents may only just be coming back
	}
	return k.all(ctx, func(ctx context.Context) (int, []tasker.Task, error) {
		return k.opts.Facts.ExpireSilent(ctx, k.opts.LostAfter, limit)
	})
}

// all repeats a bounded step until it finds nothing more. A step that takes too
// long fails: when a database goes on that stood still, reports go on as well,
// and the step would end what is reported at that moment.
func (k *Keeper) all(ctx context.Context, step func(context.Context) (int, []tasker.Task, error)) error {
	once := func() (int, []tasker.Task, error) {
		ctx, cancel := context.WithTimeout(ctx, held)
		defer cancel()
		return step(ctx)
	}
	for {
		n, finished, err := once()
		if err != nil {
			return err
		}
		if len(finished) > 0 && k.opts.Finished != nil {
			k.opts.Finished(finished)
		}
		if n < limit {
			return nil
		}
	}
}

// createdAfter is the time, by the database's clock, before which tasks are
// still excused; zero is none.
func (k *Keeper) createdAfter(ctx context.Context) (time.Time, error) {
	if k.opts.Away != nil && k.opts.Away() {
		k.Outage()
	}
	now, err := k.clock(ctx)
	if err != nil {
		return time.Time{}, err
	}
	k.mu.Lock()
	settling, excused, settled := k.settling, k.excused, k.settled
	k.mu.Unlock()
	switch {
	case !settling:
		return time.Time{}, nil
	case excused.IsZero():
		k.mu.Lock()
		defer k.mu.Unlock()
		k.excused, k.settled = now, time.Now().Add(k.opts.Settle)
		return now, nil
	case time.Now().Before(settled) || !k.opts.Drained():
		return excused, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settled.Equal(settled) { // no further outage meanwhile
		k.settling = false
		return time.Time{}, nil
	}
	return excused, nil
}

// clock is the database's. Where more time has passed by it than here, the machine was
// suspended, which stops this process's clock, or a clock was set.
func (k *Keeper) clock(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, held)
	defer cancel()
	now, err := k.opts.Facts.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !k.asked.IsZero() && now.Sub(k.now)-time.Since(k.asked) > held {
		k.Outage()
	}
	k.now, k.asked = now, time.Now()
	return now, nil
}
