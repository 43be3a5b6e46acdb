// Package rollout advances rollouts. Each step is a pure function of the stored state,
// decided and written in one transaction, so another control plane can continue after one
// that died. The control plane that holds the lease does this.
package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Store is the part of the store that holds the rollouts.
type Store interface {
	AcquireLease(ctx context.Context, l store.Lease, ttl time.Duration) error
	ReleaseLease(ctx context.Context, l store.Lease) error
	DueRollouts(ctx context.Context, limit int) ([]string, error)
	GatingRollout(ctx context.Context, id string) (*store.Gating, error)
	AdvanceRollout(ctx context.Context, l store.Lease, id string, decide func(decision.Input) (decision.Step, error)) ([]tasker.Task, error)
}

// Gates evaluates gates for the endpoints of the waves so far. Without a pass, reason
// explains that to people. The error is that of ctx.
type Gates interface {
	Check(ctx context.Context, g tasker.Gate, endpoints []string) (passes bool, reason string, err error)
}

// Options configure New.
type Options struct {
	Store Store
	Gates Gates
	Log   *slog.Logger
	// Finished receives the tasks that finished. It must not block, and may be nil.
	Finished func([]tasker.Task)
	// Poll is how often due rollouts are read without a wake-up; 500 ms when zero.
	Poll time.Duration
	// Lease is how long this process leads without renewing the lease; 5 s when zero. It
	// is how long rollouts stand still after the leader was killed.
	Lease time.Duration
}

// Engine advances rollouts.
type Engine struct {
	opts  Options
	loop  *backoff.Loop
	lease store.Lease
	// renewedAt is when the lease was last requested; isLeader is the result.
	renewedAt time.Time
	isLeader  bool
	gates     *gateChecks
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
	if o.Finished == nil {
		o.Finished = func([]tasker.Task) {}
	}
	loop := backoff.NewLoop(backoff.LoopOptions{
		Interval: o.Poll, Log: o.Log,
		Failing: "rollouts cannot be advanced; trying again", Recovered: "rollouts are advanced again",
	})
	return &Engine{
		opts: o, loop: loop, lease: store.Lease{Name: "rollouts", Holder: rand.Text()},
		gates: &gateChecks{gates: o.Gates, done: loop.Wake, byTask: map[string]*gateCheck{}},
	}
}

// Wake makes Run read the due rollouts at once. It never blocks.
func (e *Engine) Wake() { e.loop.Wake() }

// Run advances rollouts until ctx is done, and returns its error. While the database is
// unavailable it tries again.
func (e *Engine) Run(ctx context.Context) error {
	defer e.gates.running.Wait()
	defer e.releaseLease(ctx)
	return e.loop.Run(ctx, e.round)
}

// releaseLease lets another control plane lead at once.
func (e *Engine) releaseLease(ctx context.Context) {
	if !e.isLeader {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.opts.Lease)
	defer cancel()
	if err := e.opts.Store.ReleaseLease(ctx, e.lease); err != nil {
		e.opts.Log.Info("the lease of rollouts was not released; it will expire", "error", err)
	}
}

// round advances the due rollouts. It reports whether there may be more.
func (e *Engine) round(ctx context.Context) (more bool, err error) {
	ids, err := e.opts.Store.DueRollouts(ctx, limit)
	ids = append(ids, e.gates.finished()...)
	if err != nil || len(ids) == 0 {
		return false, err
	}
	if isLeader, err := e.renewLease(ctx); err != nil || !isLeader {
		return false, err
	}
	for _, id := range ids {
		switch failure := e.advance(ctx, id); {
		case errors.Is(failure, store.ErrLease):
			e.isLeader = false
			return false, nil
		case failure != nil: // the other rollouts go on
			err = errors.Join(err, fmt.Errorf("task %s: %w", id, failure))
		}
	}
	return err == nil && len(ids) >= limit, err
}

// renewLease acquires or renews the lease, and reports whether this process leads.
func (e *Engine) renewLease(ctx context.Context) (bool, error) {
	if e.isLeader && time.Since(e.renewedAt) < e.opts.Lease/3 {
		return true, nil
	}
	began := time.Now()
	err := e.opts.Store.AcquireLease(ctx, e.lease, e.opts.Lease)
	if err != nil && !errors.Is(err, store.ErrLease) {
		return false, err
	}
	if e.isLeader != (err == nil) {
		e.opts.Log.Debug("leader of rollouts changed", "leads", err == nil)
	}
	e.isLeader, e.renewedAt = err == nil, began
	return e.isLeader, nil
}

// advance advances one rollout. If the rollout then waits for its gate, advance starts a
// check of the gate.
func (e *Engine) advance(ctx context.Context, id string) error {
	check := e.gates.take(id)
	needsCheck := false
	finished, err := e.opts.Store.AdvanceRollout(ctx, e.lease, id, func(in decision.Input) (decision.Step, error) {
		in.Gate = check.resultAt(in.Task.Version)
		step, err := decision.Next(in)
		needsCheck = step.State == tasker.RolloutGating && in.Gate == nil
		if t := in.Task; step.IsMove(*t.Rollout) {
			e.opts.Log.Info("rollout advances", "task", t.ID, "type", t.Type, "identifier", t.Identifier,
				"from", t.Rollout.State, "to", step.State, "wave", t.Rollout.Wave, "reason", step.Reason)
		}
		return step, err
	})
	if len(finished) > 0 {
		e.opts.Finished(finished)
	}
	if err != nil || !needsCheck {
		return err
	}
	gating, err := e.opts.Store.GatingRollout(ctx, id)
	if err == nil && gating != nil {
		e.gates.start(ctx, id, *gating)
	}
	return err
}
