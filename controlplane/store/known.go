package store

import "sync"

// maxKnown bounds what is kept of names that nobody may have.
const maxKnown = 100_000

// known keeps what was read, so that an agent that speaks often costs no query each
// time. It is right where no other process changes the same rows, and whoever changes
// them here calls forget after the commit. A nil one keeps nothing.
type known[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]V
	// changes counts the calls of forget: what was read before one may be older.
	changes int
}

func newKnown[K comparable, V any]() *known[K, V] { return &known[K, V]{values: map[K]V{}} }

// get returns what is known under the key, or reads it. Errors are not kept.
func (k *known[K, V]) get(key K, read func() (V, error)) (V, error) {
	if k == nil {
		return read()
	}
	k.mu.Lock()
	v, ok := k.values[key]
	changes := k.changes
	k.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if changes != k.changes {
		return v, nil
	}
	if len(k.values) >= maxKnown {
		clear(k.values)
	}
	k.values[key] = v
	return v, nil
}

func (k *known[K, V]) forget() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes++
	clear(k.values)
}
