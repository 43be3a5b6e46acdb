package fleetbench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// measurePlainLoop measures the plain loop and the bare commits, and records both in r.
// For each task the loop publishes the messages with pipelined confirms. Each is consumed
// from a queue of its own and answered as often as by the agents. The answers are stored
// in batches. A bare commit stores the rows of a POST once more.
func measurePlainLoop(ctx context.Context, o Options, env *environment, m *meter, r *Result) (err error) {
	responses := o.Tasks
	if !o.Spread {
		responses *= o.Endpoints
	}
	l := &loop{Options: o, answers: max(1, int(math.Round(r.Updates/float64(responses)))), body: payload(o.Payload)}
	r.RawAnswers = l.answers
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.open(ctx, env); err != nil {
		return err
	}
	each := o.Endpoints
	rounds := o.Tasks
	if o.Spread {
		each, rounds = o.Tasks, 1
	}
	if _, err := l.round(ctx, o.Endpoints); err != nil { // warms up, as the first task does
		return err
	}
	before := m.read(ctx)
	var took []time.Duration
	for range rounds {
		t, err := l.round(ctx, each)
		if err != nil {
			return err
		}
		o.Logf("plain loop: %d messages after %s", each, t.Round(time.Millisecond))
		took = append(took, t)
	}
	r.RawUsage = m.read(ctx).since(before)
	raw := percentiles(took).P50
	ratio := r.FinishedMS / raw
	r.RawMS, r.RatioToRaw = &raw, &ratio
	callers := 1
	if o.Spread {
		callers = spreadCallers
	}
	if took, err = l.measureCommits(ctx, callers); err != nil {
		return fmt.Errorf("commit the same rows: %w", err)
	}
	bare := percentiles(took)
	times := r.Post.P99 / bare.P99
	r.BareCommit, r.PostToCommit = &bare, &times
	return nil
}
