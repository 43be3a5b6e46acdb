// Package watch wakes the watchers of a task when it has changed. A wake-up does not contain
// the change: a watcher reads the change from the store.
package watch

import "sync"

// Fanout wakes the watchers of tasks. It owns no goroutine, and Wake never blocks: a
// slow watcher gets one wake-up for all changes that it missed.
type Fanout struct {
	mu       sync.Mutex
	watchers map[string]map[chan struct{}]struct{}
}

// NewFanout makes a Fanout without watchers.
func NewFanout() *Fanout {
	return &Fanout{watchers: make(map[string]map[chan struct{}]struct{})}
}

// Wake wakes the watchers of the tasks with these ids.
func (f *Fanout) Wake(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		for c := range f.watchers[id] {
			select {
			case c <- struct{}{}:
			default: // a wake-up is already waiting
			}
		}
	}
}

// Subscribe returns a channel that receives after Wake was called for the task, and a
// function that ends the subscription and may be called more than once. The channel is
// never closed. A change between Subscribe and a later read of the store is not lost.
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

// Watchers returns the number of subscriptions.
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
