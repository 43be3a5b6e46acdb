package agent_test

import (
	"crypto/ed25519"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// keyPair is a signing key of a control plane.
type keyPair struct {
	public  ed25519.PublicKey
	private ed25519.PrivateKey
}

func newKeyPair(t *testing.T) keyPair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	return keyPair{public, private}
}

// endorse returns the endorsement of the next key, which retires k at a time.
func (k keyPair) endorse(next keyPair, retires time.Time) tasker.Endorsement {
	e := tasker.Endorsement{Key: next.public, Retires: retires}
	e.Sign(k.private)
	return e
}

// keyStore records the keys that an agent stores.
type keyStore struct {
	mu   sync.Mutex
	keys []ed25519.PublicKey
}

func (s *keyStore) store(keys []ed25519.PublicKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
	return nil
}

func (s *keyStore) has(keys ...keyPair) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.EqualFunc(s.keys, keys, func(a ed25519.PublicKey, b keyPair) bool { return a.Equal(b.public) })
}

// rotation is an agent that accepts some keys, and whose control plane welcomes it with a
// key and endorsements.
type rotation struct {
	*runningAgent
	stored   *keyStore
	blocking *blockingHandler
}

func startRotation(t *testing.T, accepts []keyPair, signs keyPair, endorsements ...tasker.Endorsement) rotation {
	t.Helper()
	cp := newControlPlane()
	cp.key, cp.endorsements, cp.heartbeat = signs.private, endorsements, 100*time.Millisecond
	r := rotation{stored: &keyStore{}, blocking: newBlocking("deploy", "")}
	close(r.blocking.release)
	r.runningAgent = startAgent(t, cp, t.TempDir(), []handlers.Handler{r.blocking}, func(o *agent.Options) {
		for _, k := range accepts {
			o.Keys = append(o.Keys, k.public)
		}
		o.StoreKeys = r.stored.store
	})
	return r
}

// deliver delivers an assignment that the key has signed.
func (r rotation) deliver(t *testing.T, id string, key keyPair) {
	t.Helper()
	a := assign(r.controlPlane, id, "deploy")
	must(t, a.Sign(key.private))
	r.controlPlane.deliver(a)
}

// accepts checks that the agent performs an assignment that the key has signed.
func (r rotation) accepts(t *testing.T, id string, key keyPair) {
	t.Helper()
	r.deliver(t, id, key)
	r.waitEnded(t, id)
}

// refuses checks that the agent refuses an assignment that the key has signed.
func (r rotation) refuses(t *testing.T, id string, key keyPair) {
	t.Helper()
	before := refused(t, r.runningAgent)
	r.deliver(t, id, key)
	waitFor(t, "the order to be refused", func() bool { return refused(t, r.runningAgent) == before+1 })
}

// waitReported waits until the agent reports the newest key in a heartbeat.
func (r rotation) waitReported(t *testing.T, id string) {
	t.Helper()
	r.wait(t, "a heartbeat with key "+id, func() bool {
		return slices.ContainsFunc(r.reports, func(report tasker.Report) bool {
			return report.Heartbeat != nil && report.Heartbeat.Key == id
		})
	})
}

func TestAgentAcceptsBothKeysDuringOverlap(t *testing.T) {
	t.Parallel()
	first, second := newKeyPair(t), newKeyPair(t)
	r := startRotation(t, []keyPair{first}, first, first.endorse(second, time.Now().Add(time.Hour)))
	r.waitReported(t, tasker.KeyID(second.public))
	r.accepts(t, "of-the-old", first)
	r.accepts(t, "of-the-new", second)
	if !r.stored.has(first, second) {
		t.Error("the keys were not stored")
	}
}

// An agent that was offline during two rotations learns the newest key from the first
// welcome, which is signed with it.
func TestAgentLearnsKeysAfterOverlap(t *testing.T) {
	t.Parallel()
	first, second, third := newKeyPair(t), newKeyPair(t), newKeyPair(t)
	past := time.Now().Add(-time.Hour)
	r := startRotation(t, []keyPair{first}, third, first.endorse(second, past), second.endorse(third, past))
	r.waitReported(t, tasker.KeyID(third.public))
	r.accepts(t, "of-the-third", third)
	r.refuses(t, "of-the-first", first)
	r.refuses(t, "of-the-second", second)
	if !r.stored.has(third) {
		t.Error("the newest key was not stored alone")
	}
}

// A stolen old key cannot delay its own retirement.
func TestRetirementIsNotPutOff(t *testing.T) {
	t.Parallel()
	first, second := newKeyPair(t), newKeyPair(t)
	past := time.Now().Add(-time.Hour)
	for name, later := range map[string]time.Time{"later": time.Now().Add(time.Hour), "never": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRotation(t, []keyPair{first}, second, first.endorse(second, past), first.endorse(second, later))
			r.waitReported(t, tasker.KeyID(second.public))
			r.accepts(t, "of-the-new", second)
			r.refuses(t, "of-the-old", first)
		})
	}
}

// An order that was on its way when its key retired is requested again by a hello.
func TestOrderOfRetiredKeyIsRequestedAgain(t *testing.T) {
	t.Parallel()
	first, second := newKeyPair(t), newKeyPair(t)
	r := startRotation(t, []keyPair{first}, second, first.endorse(second, time.Now().Add(-time.Second)))
	r.waitReported(t, tasker.KeyID(second.public))
	hellos := func() (n int) {
		for _, report := range r.reports {
			if report.Hello != nil {
				n++
			}
		}
		return n
	}
	r.wait(t, "the first hello", func() bool { return hellos() == 1 })
	r.refuses(t, "late", first)
	r.wait(t, "another hello", func() bool { return hellos() == 2 })
}

func TestAgentRefusesEndorsements(t *testing.T) {
	t.Parallel()
	first, second, stranger := newKeyPair(t), newKeyPair(t), newKeyPair(t)
	later := time.Now().Add(time.Hour)
	forged := first.endorse(stranger, later)
	forged.Signature = stranger.endorse(stranger, later).Signature
	for name, c := range map[string]struct {
		newest       keyPair
		endorsements []tasker.Endorsement
	}{
		"of_a_stranger":                     {first, []tasker.Endorsement{stranger.endorse(stranger, later)}},
		"with_a_wrong_signature":            {first, []tasker.Endorsement{forged}},
		"of_a_key_that_has_a_successor":     {second, []tasker.Endorsement{first.endorse(second, later), first.endorse(stranger, later)}},
		"of_a_key_that_is_not_accepted_yet": {second, []tasker.Endorsement{second.endorse(stranger, later), first.endorse(second, later)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRotation(t, []keyPair{first}, first, c.endorsements...)
			r.waitReported(t, tasker.KeyID(c.newest.public))
			r.refuses(t, "of-the-stranger", stranger)
		})
	}
}

// Without keys an agent accepts every order, and learns none.
func TestAgentWithoutKeysLearnsNone(t *testing.T) {
	t.Parallel()
	first, second := newKeyPair(t), newKeyPair(t)
	r := startRotation(t, nil, first, first.endorse(second, time.Now().Add(time.Hour)))
	r.waitReported(t, "")
	r.accepts(t, "of-the-second", second)
	if !r.stored.has() {
		t.Error("the agent has learned a key")
	}
}
