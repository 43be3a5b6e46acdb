// Package rollout moves rollouts on: what becomes of one is a pure function of
// what is stored, decided and written in one transaction, so a control plane that
// dies at any moment leaves a rollout that another one goes on with. Of several
// control planes the one that holds the lease does this.
package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Plans is the part of the store that holds the rollouts.
type Plans interface {
	AcquireLease(ctx context.Context, l store.Lease, ttl time.Duration) error
	ReleaseLease(ctx context.Context, l store.Lease) error
	DueRollouts(ctx context.Context, limit int) ([]string, error)
	GatingRollout(ctx context.Context, id string) (*store.Gating, error)
	AdvanceRollout(ctx context.Context, l store.Lease, id string, decide func(store.RolloutView) store.RolloutStep) ([]tasker.Task, error)
}

// Gates asks whether a gate holds, about the endpoints of the waves so far. An
// error is that of ctx.
type Gates interface {
	Ask(ctx context.Context, g tasker.Gate, endpoints []string) (holds bool, why string, err error)
}

// Options say what an Engine works with.
type Options struct {
	Plans Plans
	Gates Gates
	Log   *slog.Logger
	// Finished is told the tasks that ended; it must not block.
	Finished func([]tasker.Task)
	// Poll is how often it is looked for due rollouts without being woken; 500 ms
	// when zero.
	Poll time.Duration
	// Lease is for how long this process leads without renewing it; 5 s when zero. It
	// is how long a rollout stands still after the control plane was killed.
	Lease time.Duration
}

// Engine moves rollouts on.
type Engine struct {
	opts  Options
	lease store.Lease
	wake  chan struct{}
	// renewed is when the lease was last taken; leads is whether that succeeded.
	renewed time.Time
	leads   bool

	mu sync.Mutex
	// questions are those to gates, by task, until their answer is dealt with.
	questions map[string]*question
	asking    sync.WaitGroup
}

// limit bounds the rollouts of one round.
const limit = 100

// New makes an Engine; Run starts it.
func New(o Options) *Engine {
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Lease == 0 {
		o.Lease = 5 * time.Second
	}
	return &Engine{
		opts: o, lease: store.Lease{Name: "rollouts", Holder: rand.Text()},
		wake: make(chan struct{}, 1), questions: map[string]*question{},
	}
}

// Wake makes Run look for due rollouts at once. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run moves rollouts on until ctx is done, and returns its error. A database that
// is away is waited out.
func (e *Engine) Run(ctx context.Context) error {
	defer e.asking.Wait()
	defer e.giveUp(ctx)
	return backoff.Rounds{
		Poll: e.opts.Poll, Wake: e.wake,
		Failing: func(err error) { e.opts.Log.Warn("rollouts cannot be moved on; trying again", "error", err) },
		Mended:  func() { e.opts.Log.Info("rollouts are moved on again") },
	}.Run(ctx, e.round)
}

// giveUp lets another control plane lead at once.
func (e *Engine) giveUp(ctx context.Context) {
	if !e.leads {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.opts.Lease)
	defer cancel()
	if err := e.opts.Plans.ReleaseLease(ctx, e.lease); err != nil {
		e.opts.Log.Info("the lease of rollouts was not given back; it runs out by itself", "error", err)
	}
}

// round looks at what is due. It says whether there may be more.
func (e *Engine) round(ctx context.Context) (more bool, err error) {
	ids, err := e.opts.Plans.DueRollouts(ctx, limit)
	ids = append(ids, e.answered()...)
	if err != nil || len(ids) == 0 {
		return false, err
	}
	if leads, err := e.lead(ctx); err != nil || !leads {
		return false, err
	}
	for _, id := range ids {
		switch one := e.advance(ctx, id); {
		case errors.Is(one, store.ErrLease):
			e.leads = false
			return false, nil
		case one != nil: // it is no reason to leave the others
			err = errors.Join(err, fmt.Errorf("task %s: %w", id, one))
		}
	}
	return err == nil && len(ids) >= limit, err
}

// lead takes or renews the lease, and says whether this process leads.
func (e *Engine) lead(ctx context.Context) (bool, error) {
	if e.leads && time.Since(e.renewed) < e.opts.Lease/3 {
		return true, nil
	}
	began := time.Now()
	err := e.opts.Plans.AcquireLease(ctx, e.lease, e.opts.Lease)
	if err != nil && !errors.Is(err, store.ErrLease) {
		return false, err
	}
	if e.leads != (err == nil) {
		e.opts.Log.Debug("who moves rollouts on has changed", "leads", err == nil)
	}
	e.leads, e.renewed = err == nil, began
	return e.leads, nil
}

// advance moves one rollout on. Where it comes to stand before its gate, that is
// asked.
func (e *Engine) advance(ctx context.Context, id string) error {
	heard := e.heard(id)
	unasked := false
	finished, err := e.opts.Plans.AdvanceRollout(ctx, e.lease, id, func(v store.RolloutView) store.RolloutStep {
		gate := heard.at(v.Task.Version)
		step := next(v, gate)
		unasked = step.State == tasker.RolloutGating && gate == nil
		if step.State != v.Task.Rollout.State || step.Release {
			e.opts.Log.Info("rollout moves on", "task", v.Task.ID, "type", v.Task.Type, "identifier", v.Task.Identifier,
				"from", v.Task.Rollout.State, "to", step.State, "wave", v.Task.Rollout.Wave, "reason", step.Reason)
		}
		return step
	})
	if len(finished) > 0 && e.opts.Finished != nil {
		e.opts.Finished(finished)
	}
	if err != nil || !unasked {
		return err
	}
	return e.ask(ctx, id)
}
