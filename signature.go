package tasker

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrSignature: an order has no signature, or none made with a trusted key.
var ErrSignature = errors.New("the order is not signed with a key of the control plane")

// Sign signs the order. What it says and to whom is signed, not when the
// transport may drop it (Expires).
func (o *Order) Sign(key ed25519.PrivateKey) error {
	said, err := o.said()
	if err != nil {
		return err
	}
	o.Signature = ed25519.Sign(key, said)
	return nil
}

// Verify returns nil if the order was signed with one of the keys, else
// ErrSignature.
func (o *Order) Verify(keys []ed25519.PublicKey) error {
	said, err := o.said()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool {
		return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, said, o.Signature)
	}) {
		return ErrSignature
	}
	return nil
}

// said is what is signed: each field with its length before it, so that no two
// orders have the same bytes, and none of another purpose either. It is the same
// before and after a way through JSON. A field that is added to an order and
// matters is added at the end here, where it is not zero.
func (o *Order) said() ([]byte, error) {
	s := speech{}
	s.text("tasker order 1")
	s.text(o.Endpoint)
	s.text(o.Type)
	switch {
	case o.Assignment != nil && (o.Cancel != nil || o.Welcome != nil), o.Cancel != nil && o.Welcome != nil:
		return nil, errors.New("the order is more than one")
	case o.Assignment != nil:
		a := o.Assignment
		payload, err := json.Marshal(a.Payload) // as on the way: compact, escaped, null for none
		if err != nil {
			return nil, fmt.Errorf("payload of the order: %w", err)
		}
		digest := sha256.Sum256(payload)
		s.text("assignment")
		s.text(a.TaskID)
		s.text(a.Identifier)
		s.number(int64(a.Attempt))
		s.text(a.Handler)
		s.text(string(digest[:]))
		s.number(a.Timeout.D().Microseconds())
		s.number(a.Deadline.UnixMicro())
		if a.Action != Perform {
			s.text(string(a.Action))
			s.text(a.Undoes)
		}
	case o.Cancel != nil:
		c := o.Cancel
		s.text("cancel")
		s.text(c.TaskID)
		s.number(int64(c.Attempt))
		s.number(c.Deadline.UnixMicro())
		if c.Broadcast {
			s.text("broadcast")
		}
	case o.Welcome != nil:
		w := o.Welcome
		s.text("welcome")
		s.text(w.Session)
		s.number(w.Now.UnixMicro())
		s.number(w.Heartbeat.D().Microseconds())
	default:
		return nil, errors.New("the order is empty")
	}
	return s, nil
}

// speech collects what is signed.
type speech []byte

func (s *speech) text(t string)  { *s = append(binary.AppendUvarint(*s, uint64(len(t))), t...) }
func (s *speech) number(n int64) { *s = binary.AppendVarint(*s, n) }
