// Package watch tells those who watch a task that it has changed. It carries
// no state, only wake-ups: a watcher reads what changed from the store.
package watch

import "sync"

// Fanout wakes the watchers of tasks. It owns no goroutine, and Publish never
// waits: a watcher that is slow finds one wake-up for all it has missed.
type Fanout struct {
	mu       sync.Mutex
	watchers map[string]map[chan struct{}]struct{}
}

// NewFanout makes a Fanout without watchers.
func NewFanout() *Fanout {
	return &Fanout{watchers: make(map[string]map[chan struct{}]struct{})}
}

// Publish wakes everyone who watches one of the tasks, given by their ids.
func (f *Fanout) Publish(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		for c := range f.watchers[id] {
			select {
			case c <- struct{}{}:
			default: // already woken, and has not looked yet
			}
		}
	}
}

// Subscribe returns a channel that receives after the task was published, and a
// function that ends the subscription; that may be called more than once. The
// channel is never closed. What is published between Subscribe and a later
// reading of the store is not lost.
func (f *Fanout) Subscribe(id string) (wake <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[id] == nil {
		f.watchers[id] = make(map[chan struct{}]struct{})
	}
	f.watchers[id][c] = struct{}{}
	return c, func() { f.remove(id, c) }
}

// Watchers is the number of subscriptions.
func (f *Fanout) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, w := range f.watchers {
		n += len(w)
	}
	return n
}

func (f *Fanout) remove(id string, c chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers[id], c)
	if len(f.watchers[id]) == 0 {
		delete(f.watchers, id)
	}
}
