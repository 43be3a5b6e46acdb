package backoff

import (
	"context"
	"time"
)

// Rounds is a loop that looks for work: at once when it is woken, else every Poll,
// and with back-off while it cannot look.
type Rounds struct {
	Poll time.Duration
	Wake <-chan struct{}
	// Failing is told the first error of a row, Mended that a round went well again.
	Failing func(error)
	Mended  func()
}

// longest is the longest pause after an error.
const longest = 5 * time.Second

// Run goes round until ctx is done, and returns its error. A round says whether
// there may be more to do, and then is followed by the next one at once.
func (r Rounds) Run(ctx context.Context, round func(context.Context) (more bool, err error)) error {
	wait := Policy{First: r.Poll, Cap: longest}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		more, err := round(ctx)
		pause := r.Poll
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if failures == 0 {
				r.Failing(err)
			}
			pause = wait.Wait(failures)
			failures++
		case failures > 0:
			r.Mended()
			failures = 0
		}
		if more && err == nil {
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.Wake:
		case <-timer.C:
		}
	}
}
