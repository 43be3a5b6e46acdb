package auth

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The limits of wrong tokens: an address may send failureBurst at once, and then one in
// failureInterval. The memory for addresses and tokens is bounded: the ones that were
// used longest ago are forgotten.
const (
	failureBurst    = 30
	failureInterval = 2 * time.Second
	maxAddresses    = 8192
	maxKnownTokens  = 65536
)

// FailureLimiter limits how many wrong tokens an address may send. IPv6 addresses count by
// their /64 network, which one host can have for itself. Only wrong tokens count. A token
// that was right before is not limited, so that an agent behind the address of an
// attacker keeps its connection. It is safe for concurrent use.
type FailureLimiter struct {
	now func() time.Time

	mu        sync.Mutex
	addresses recent[netip.Prefix, *rate.Limiter]
	tokens    recent[[sha256.Size]byte, struct{}]
}

// NewFailureLimiter returns a FailureLimiter with a clock.
func NewFailureLimiter(now func() time.Time) *FailureLimiter {
	return &FailureLimiter{now: now, addresses: newRecent[netip.Prefix, *rate.Limiter](maxAddresses), tokens: newRecent[[sha256.Size]byte, struct{}](maxKnownTokens)}
}

// Wait returns how long the address must wait before it may send a token that was not
// right before; zero if it may now.
func (l *FailureLimiter) Wait(address netip.Addr, token string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, limited := l.addresses.get(Network(address))
	if !limited {
		return 0
	}
	if _, known := l.tokens.get(sha256.Sum256([]byte(token))); known {
		return 0
	}
	missing := 1 - bucket.TokensAt(l.now())
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing * float64(failureInterval))
}

// Accepted records that a token was right.
func (l *FailureLimiter) Accepted(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens.put(sha256.Sum256([]byte(token)), struct{}{})
}

// Failed records that the address has sent a wrong token.
func (l *FailureLimiter) Failed(address netip.Addr, token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens.remove(sha256.Sum256([]byte(token)))
	key := Network(address)
	bucket, ok := l.addresses.get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Every(failureInterval), failureBurst)
		l.addresses.put(key, bucket)
	}
	bucket.AllowN(l.now(), 1)
}

// Network returns the network that an address is limited by: an IPv4 address, or the /64
// network of an IPv6 address.
func Network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // an unknown address
	}
	return prefix
}

// recent is a map of the entries that were used last, at most size of them.
type recent[K comparable, V any] struct {
	size    int
	entries map[K]*list.Element
	// order has the entries, the one that was used last first.
	order *list.List
}

type recentEntry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](size int) recent[K, V] {
	return recent[K, V]{size: size, entries: map[K]*list.Element{}, order: list.New()}
}

func (r *recent[K, V]) get(key K) (value V, ok bool) {
	e, ok := r.entries[key]
	if !ok {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(recentEntry[K, V]).value, true //nolint:errcheck // the list has no other type
}

func (r *recent[K, V]) put(key K, value V) {
	r.remove(key)
	r.entries[key] = r.order.PushFront(recentEntry[K, V]{key, value})
	if r.order.Len() > r.size {
		r.remove(r.order.Back().Value.(recentEntry[K, V]).key) //nolint:errcheck // the list has no other type
	}
}

func (r *recent[K, V]) remove(key K) {
	if e, ok := r.entries[key]; ok {
		r.order.Remove(e)
		delete(r.entries, key)
	}
}
