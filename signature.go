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

// ErrSignature means that an order has no signature of a trusted key.
var ErrSignature = errors.New("the order is not signed with a key of the control plane")

// Sign signs the order: its content and its receiver, but not its Expires.
func (o *Order) Sign(key ed25519.PrivateKey) error {
	content, err := o.signedBytes()
	if err != nil {
		return err
	}
	o.Signature = ed25519.Sign(key, content)
	return nil
}

// Verify returns nil if the order was signed with one of the keys, else
// ErrSignature.
func (o *Order) Verify(keys []ed25519.PublicKey) error {
	content, err := o.signedBytes()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool {
		return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, content, o.Signature)
	}) {
		return ErrSignature
	}
	return nil
}

// signedBytes returns the bytes that are signed: each field after its length, so that
// no two orders have the same bytes. Encoding the order to JSON and back does not change
// them. New fields are appended at the end, unless they are zero, so that old signatures
// stay valid.
func (o *Order) signedBytes() ([]byte, error) {
	s := fieldEncoder{}
	s.text("tasker order 1")
	s.text(o.Endpoint)
	s.text(o.Type)
	switch {
	case o.Assignment != nil && (o.Cancel != nil || o.Welcome != nil), o.Cancel != nil && o.Welcome != nil:
		return nil, errors.New("the order has more than one content")
	case o.Assignment != nil:
		a := o.Assignment
		payload, err := json.Marshal(a.Payload) // as in the JSON of the order: compact, escaped, null if empty
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

// fieldEncoder is the encoding of the fields appended so far.
type fieldEncoder []byte

func (s *fieldEncoder) text(t string)  { *s = append(binary.AppendUvarint(*s, uint64(len(t))), t...) }
func (s *fieldEncoder) number(n int64) { *s = binary.AppendVarint(*s, n) }
