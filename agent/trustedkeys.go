package agent

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// trustedKeys are the keys of the control plane that an enrolled agent accepts. Without
// keys it accepts every order. It is safe for concurrent use.
type trustedKeys struct {
	mu sync.Mutex
	// keys are the accepted keys, oldest first: each but the first was introduced by the
	// one before it, by an endorsement or at the enrolment.
	keys []trustedKey
	// retired are the keys that are no longer accepted.
	retired []ed25519.PublicKey
}

// trustedKey is a key that is accepted until retires; zero means that there is no limit.
type trustedKey struct {
	ed25519.PublicKey
	retires time.Time
}

func newTrustedKeys(keys []ed25519.PublicKey) *trustedKeys {
	t := &trustedKeys{}
	for _, key := range keys {
		t.keys = append(t.keys, trustedKey{PublicKey: key})
	}
	return t
}

// accepted returns the accepted keys, oldest first.
func (t *trustedKeys) accepted() []ed25519.PublicKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list()
}

func (t *trustedKeys) list() []ed25519.PublicKey {
	list := make([]ed25519.PublicKey, len(t.keys))
	for i, key := range t.keys {
		list[i] = key.PublicKey
	}
	return list
}

// newest returns the id of the newest key; empty without keys.
func (t *trustedKeys) newest() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 {
		return ""
	}
	return tasker.KeyID(t.keys[len(t.keys)-1].PublicKey)
}

// learn accepts the keys that accepted keys endorse. Only the newest key can introduce
// another one, so a thief of an old key cannot add a key beside its successor.
// It returns the accepted keys if there are more than before, else nil.
func (t *trustedKeys) learn(endorsements []tasker.Endorsement) []ed25519.PublicKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 {
		return nil
	}
	isNew := false
	for _, e := range endorsements[:min(len(endorsements), tasker.MaxEndorsements)] {
		by := slices.IndexFunc(t.keys, func(key trustedKey) bool { return bytes.Equal(key.PublicKey, e.By) })
		if by < 0 || e.Verify() != nil {
			continue
		}
		if by == len(t.keys)-1 {
			t.keys = append(t.keys, trustedKey{PublicKey: e.Key})
			isNew = true
		}
		// A thief of the old key must not delay its retirement.
		retires := &t.keys[by].retires
		if bytes.Equal(t.keys[by+1].PublicKey, e.Key) && (retires.IsZero() || e.Retires.Before(*retires) && !e.Retires.IsZero()) {
			*retires = e.Retires
		}
	}
	if !isNew {
		return nil
	}
	return t.list()
}

// retire stops to accept the keys whose time has passed. It returns the accepted keys if
// there are fewer than before, else nil.
func (t *trustedKeys) retire(now time.Time) []ed25519.PublicKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.keys)
	t.keys = slices.DeleteFunc(t.keys, func(key trustedKey) bool {
		isRetired := !key.retires.IsZero() && !now.Before(key.retires)
		if isRetired {
			t.retired = append(t.retired, key.PublicKey)
		}
		return isRetired
	})
	if len(t.keys) == before {
		return nil
	}
	t.retired = t.retired[max(0, len(t.retired)-tasker.MaxEndorsements):]
	return t.list()
}

// isRetired reports whether a key that is no longer accepted has signed the order.
func (t *trustedKeys) isRetired(o tasker.Order) bool {
	t.mu.Lock()
	retired := slices.Clone(t.retired)
	t.mu.Unlock()
	return len(retired) > 0 && o.Verify(retired) == nil
}
