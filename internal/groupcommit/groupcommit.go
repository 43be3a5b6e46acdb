// Package groupcommit lets those who want to write at the same time share a
// transaction.
package groupcommit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Group gathers the work that comes while a transaction is under way into the
// next one: under load a commit is shared, and without load nobody waits. Only
// one transaction of a group runs at a time.
type Group[T any] struct {
	run   func(ctx context.Context, works []T) error
	alone func(error) bool
	most  int

	// turn is held by whoever runs.
	turn    chan struct{}
	mu      sync.Mutex
	waiting []*call[T]
}

// call is work that waits. Its done is closed when err holds.
type call[T any] struct {
	ctx    context.Context //nolint:containedctx // of the caller who waits for it
	work   T
	weight int
	done   chan struct{}
	err    error
}

// result is what the caller is told: the end of its own context, if that was why.
func (c *call[T]) result() error {
	if end := c.ctx.Err(); end != nil && errors.Is(c.err, context.Canceled) {
		return end
	}
	return c.err
}

// New makes a Group. run does works in one transaction. alone says of an error of
// run whether it may be that of one work only, so that each is then done by
// itself. most bounds the weights that are done together.
func New[T any](most int, alone func(error) bool, run func(context.Context, []T) error) *Group[T] {
	return &Group[T]{run: run, alone: alone, most: most, turn: make(chan struct{}, 1)}
}

// Do has the work done, by one of those who wait, and returns when it is.
// After an error of ctx the work may have been done.
func (g *Group[T]) Do(ctx context.Context, work T, weight int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call[T]{ctx: ctx, work: work, weight: weight, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case <-c.done:
	case g.turn <- struct{}{}:
		g.lead(c)
	case <-ctx.Done():
		if g.leave(c) {
			return ctx.Err()
		}
		<-c.done // it is being done
	}
	return c.result()
}

// leave takes a call back that nobody has begun.
func (g *Group[T]) leave(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// take removes the calls that are done together: those that wait longest, and
// the first one however heavy it is.
func (g *Group[T]) take() []*call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, weight := 0, 0
	for n < len(g.waiting) && (n == 0 || weight+g.waiting[n].weight <= g.most) {
		weight += g.waiting[n].weight
		n++
	}
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return taken
}

// errBroken is told to those whose work was under way when it panicked.
var errBroken = errors.New("whoever did the work broke off")

// lead does what waits, until that was c's work too, and gives the turn back.
func (g *Group[T]) lead(c *call[T]) {
	defer func() { <-g.turn }()
	runtime.Gosched() // others of a burst may be about to come
	for {
		select {
		case <-c.done:
			return
		default:
			g.next(g.take())
		}
	}
}

// next does calls together, or one by one if that fails, and says so to all, also
// when one panics.
func (g *Group[T]) next(calls []*call[T]) {
	for _, c := range calls {
		c.err = errBroken
	}
	defer func() {
		for _, c := range calls {
			close(c.done)
		}
	}()
	err := g.together(calls)
	single := err != nil && len(calls) > 1 && g.alone(err)
	for _, c := range calls {
		if c.err = err; single {
			c.err = g.together([]*call[T]{c})
		}
	}
}

// together runs the calls under a context that ends when all of theirs have.
func (g *Group[T]) together(calls []*call[T]) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(calls[0].ctx))
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(calls)))
	works := make([]T, len(calls))
	for i, c := range calls {
		works[i] = c.work
		defer context.AfterFunc(c.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	return g.run(ctx, works)
}
