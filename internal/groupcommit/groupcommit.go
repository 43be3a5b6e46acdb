// Package groupcommit lets concurrent callers share one transaction. Items that arrive
// during a transaction go into the next one: under load callers share a commit, and
// without load no caller waits.
package groupcommit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Group is a queue of items, of which one transaction at a time is run.
type Group[T any] struct {
	run               func(ctx context.Context, items []T) error
	retryIndividually func(error) bool
	maxWeight         int

	// leading is held by the caller that runs transactions, for itself and others.
	leading chan struct{}
	mu      sync.Mutex
	waiting []*call[T]
}

// call is an item that waits. done is closed after err is set.
type call[T any] struct {
	ctx    context.Context //nolint:containedctx // of the caller that waits
	item   T
	weight int
	done   chan struct{}
	err    error
}

// result returns the error for the caller: that of its own context if that was the cause.
func (c *call[T]) result() error {
	if end := c.ctx.Err(); end != nil && errors.Is(c.err, context.Canceled) {
		return end
	}
	return c.err
}

// New makes a Group. run writes items in one transaction of at most maxWeight.
// retryIndividually reports whether a failed transaction should be retried item by
// item, because one of the items may be at fault.
func New[T any](maxWeight int, retryIndividually func(error) bool, run func(context.Context, []T) error) *Group[T] {
	return &Group[T]{run: run, retryIndividually: retryIndividually, maxWeight: maxWeight, leading: make(chan struct{}, 1)}
}

// Do returns after a transaction with the item has ended, whichever caller ran it.
// After an error of ctx the item may have been written.
func (g *Group[T]) Do(ctx context.Context, item T, weight int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call[T]{ctx: ctx, item: item, weight: weight, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case <-c.done:
	case g.leading <- struct{}{}:
		g.lead(c)
	case <-ctx.Done():
		if g.withdraw(c) {
			return ctx.Err()
		}
		<-c.done // its transaction has begun
	}
	return c.result()
}

// withdraw removes a call from the queue and reports whether it was still there.
func (g *Group[T]) withdraw(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// lead runs transactions until c is done.
func (g *Group[T]) lead(c *call[T]) {
	defer func() { <-g.leading }()
	runtime.Gosched() // more callers of a burst may be about to arrive
	for {
		select {
		case <-c.done:
			return
		default:
			g.finish(g.dequeue())
		}
	}
}

// dequeue removes the calls of the next transaction: the oldest ones up to maxWeight,
// and the first one even if it is heavier.
func (g *Group[T]) dequeue() []*call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, weight := 0, 0
	for n < len(g.waiting) && (n == 0 || weight+g.waiting[n].weight <= g.maxWeight) {
		weight += g.waiting[n].weight
		n++
	}
	calls := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return calls
}

// errPanicked is the error of calls whose transaction panicked.
var errPanicked = errors.New("the shared transaction panicked")

// finish runs calls in one transaction, or one by one if that fails, and ends them,
// also after a panic.
func (g *Group[T]) finish(calls []*call[T]) {
	for _, c := range calls {
		c.err = errPanicked
	}
	defer func() {
		for _, c := range calls {
			close(c.done)
		}
	}()
	err := g.runShared(calls)
	individually := err != nil && len(calls) > 1 && g.retryIndividually(err)
	for _, c := range calls {
		if c.err = err; individually {
			c.err = g.runShared([]*call[T]{c})
		}
	}
}

// runShared runs calls under a context that ends when all of their contexts have.
func (g *Group[T]) runShared(calls []*call[T]) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(calls[0].ctx))
	defer cancel()
	var remaining atomic.Int64
	remaining.Store(int64(len(calls)))
	items := make([]T, len(calls))
	for i, c := range calls {
		items[i] = c.item
		defer context.AfterFunc(c.ctx, func() {
			if remaining.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	return g.run(ctx, items)
}
