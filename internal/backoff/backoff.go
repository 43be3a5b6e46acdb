// Package backoff says how long to wait before the next try: capped exponential
// back-off with full jitter, so that many who failed together do not come back
// together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is how the waits grow. Its zero value never waits.
type Policy struct {
	// First is the bound of the first wait, Cap that of all later ones.
	First, Cap time.Duration
}

// Wait returns the wait before try number tries (from 0): between half of First
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

// Sleep waits as Wait says, or until ctx is done; then it returns ctx's error.
func (p Policy) Sleep(ctx context.Context, tries int) error { return Sleep(ctx, p.Wait(tries)) }

// Sleep waits for d, or until ctx is done; then it returns ctx's error.
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
