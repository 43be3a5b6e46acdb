package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// recordTimeout bounds the time to record the outcomes of claims. If it passes, the
// claims become due again.
const recordTimeout = 5 * time.Second

// recorder writes the outcomes of claims to the outbox while the next orders are sent.
type recorder struct {
	outbox   Outbox
	inFlight *inFlight
	wake     chan struct{}

	mu     sync.Mutex
	sent   []store.Claim
	unsent []store.Unsent
	closed bool
	err    error
}

func newRecorder(outbox Outbox, f *inFlight) *recorder {
	return &recorder{outbox: outbox, inFlight: f, wake: make(chan struct{}, 1)}
}

func (r *recorder) add(sent []store.Claim, unsent []store.Unsent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent, r.unsent = append(r.sent, sent...), append(r.unsent, unsent...)
	r.wakeLocked()
}

// close makes run return after everything is written.
func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wakeLocked()
}

func (r *recorder) wakeLocked() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// takeError returns the error of the last write once.
func (r *recorder) takeError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	r.err = nil
	return err
}

// run writes until close.
func (r *recorder) run() {
	for range r.wake {
		r.mu.Lock()
		sent, unsent, closed := r.sent, r.unsent, r.closed
		r.sent, r.unsent = nil, nil
		r.mu.Unlock()
		if err := r.write(sent, unsent); err != nil {
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
		}
		if closed {
			return
		}
	}
}

func (r *recorder) write(sent []store.Claim, unsent []store.Unsent) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	var err error
	if len(unsent) > 0 {
		for _, u := range unsent {
			r.inFlight.remove(u.Claim)
		}
		err = r.outbox.MarkUnsent(ctx, unsent)
	}
	tracked, untracked := r.inFlight.split(sent)
	err = errors.Join(err, r.markSent(ctx, untracked))
	return errors.Join(err, r.markSent(ctx, r.inFlight.awaitReports(ctx, tracked)))
}

func (r *recorder) markSent(ctx context.Context, claims []store.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	return r.outbox.MarkSent(ctx, claims)
}
