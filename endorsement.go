package tasker

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Endorsement introduces a key that signs orders: the key before it has signed it. An
// agent that accepts By accepts Key too, and after Retires no longer accepts By.
type Endorsement struct {
	// Key and By are Ed25519 public keys.
	Key []byte `json:"key"`
	By  []byte `json:"by"`
	// Retires is by the control plane's clock.
	Retires time.Time `json:"retires"`
	// Signature is the signature of By; see Sign.
	Signature []byte `json:"signature"`
}

// MaxEndorsements bounds the endorsements of a welcome, and the keys that an agent
// accepts.
const MaxEndorsements = 16

// Sign sets By and Signature.
func (e *Endorsement) Sign(key ed25519.PrivateKey) {
	e.By = key.Public().(ed25519.PublicKey) //nolint:errcheck // Ed25519 keys have no other type
	e.Signature = ed25519.Sign(key, e.signedBytes())
}

// Verify returns nil if By has signed the endorsement, else ErrSignature.
func (e *Endorsement) Verify() error {
	if len(e.By) != ed25519.PublicKeySize || len(e.Key) != ed25519.PublicKeySize || !ed25519.Verify(e.By, e.signedBytes(), e.Signature) {
		return fmt.Errorf("%w: the endorsement of key %s", ErrSignature, KeyID(e.Key))
	}
	return nil
}

func (e *Endorsement) signedBytes() []byte {
	s := fieldEncoder{}
	s.text("tasker key 1")
	s.text(string(e.By))
	s.text(string(e.Key))
	s.number(e.Retires.UnixMicro())
	return s
}

// KeyID returns a short name of a public key for messages: 16 hexadecimal digits.
func KeyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}
