package store

import "sync"

// maxCached bounds a cache, because requests may carry any number of invalid keys.
const maxCached = 100_000

// cache keeps rows in memory, so that the reports of an agent need no query each. It is valid only if no other process changes the rows, and if every change
// calls clear after its commit. A nil cache keeps nothing.
type cache[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]V
	// generation counts the calls of clear: a value read before one may be outdated.
	generation int
}

func newCache[K comparable, V any]() *cache[K, V] { return &cache[K, V]{values: map[K]V{}} }

// get returns the cached value of the key, or reads it. Errors are not cached.
func (c *cache[K, V]) get(key K, read func() (V, error)) (V, error) {
	if c == nil {
		return read()
	}
	c.mu.Lock()
	v, ok := c.values[key]
	generation := c.generation
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return v, nil
	}
	if len(c.values) >= maxCached {
		clear(c.values)
	}
	c.values[key] = v
	return v, nil
}

func (c *cache[K, V]) clear() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.values)
}
