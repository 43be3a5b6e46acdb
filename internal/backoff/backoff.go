// Package backoff waits between tries, with capped exponential back-off and full
// jitter, so that clients that failed together do not retry together
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Its
// Loop repeats the rounds of a component until the component stops.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is how the waits grow. The zero value never waits.
type Policy struct {
	// First bounds the first wait, Cap all later ones.
	First, Cap time.Duration
}

// Wait returns the wait before the try of this number (from 0): between half of First
// and the bound, which doubles with each try up to Cap.
func (p Policy) Wait(tries int) time.Duration {
	bound := p.First
	for range tries {
		if bound >= p.Cap {
			break
		}
		bound *= 2
	}
	if bound = min(bound, p.Cap); bound <= 0 {
		return 0
	}
	return min(bound, p.First/2+rand.N(bound))
}

// Sleep waits as long as Wait returns. If ctx ends before, Sleep returns its error.
func (p Policy) Sleep(ctx context.Context, tries int) error { return Sleep(ctx, p.Wait(tries)) }

// Sleep waits for d. If ctx ends before, Sleep returns its error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
