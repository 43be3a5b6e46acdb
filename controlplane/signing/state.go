package signing

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// ErrMissing means that the key file lacks a key that the database demands.
var ErrMissing = errors.New("the signing key is missing")

// state is what a Keyring knows at one time. It does not change.
type state struct {
	// current signs orders; nil if the file has no key that agents accept.
	current ed25519.PrivateKey
	// callback signs callbacks.
	callback []byte
	// accepted are the public keys that agents accept, oldest first.
	accepted     [][]byte
	endorsements []tasker.Endorsement
	// newest is the id of the newest key, whose time may not have come yet.
	newest string
	// problem wraps ErrMissing if a key that is needed now is missing.
	problem error
	// warning is a problem of the future; empty if there is none.
	warning string
}

// newState derives the state at a time from the file and the records of the database,
// oldest first, of which there must be one for each name.
func newState(file keyFile, path string, orders, callbacks []store.SigningKey, now time.Time) *state {
	s := &state{newest: tasker.KeyID(orders[len(orders)-1].Public)}
	for i, key := range orders {
		if i > 0 && len(key.Signature) > 0 {
			s.endorsements = append(s.endorsements, tasker.Endorsement{
				Key: key.Public, By: orders[i-1].Public, Retires: *key.Retires, Signature: key.Signature,
			})
		}
		if retired := i+1 < len(orders) && !orders[i+1].Retires.After(now); !retired {
			s.accepted = append(s.accepted, key.Public)
			s.activate(file, path, key, now)
		}
	}
	s.endorsements = s.endorsements[max(0, len(s.endorsements)-tasker.MaxEndorsements):]
	if latest := callbacks[len(callbacks)-1]; bytes.Equal(digest(file.callback), latest.Public) {
		s.callback = file.callback
	} else {
		s.problem = errors.Join(s.problem, missingError("callback secret", path, latest))
	}
	return s
}

// activate makes a key that is not retired the current one if its time has come. The key
// before it stays the current one if the file lacks the key.
func (s *state) activate(file keyFile, path string, key store.SigningKey, now time.Time) {
	private, due := file.private(key.Public), !key.SignsFrom.After(now)
	switch {
	case private == nil && due:
		s.problem = missingError("private key", path, key)
	case private == nil:
		s.warning = fmt.Sprintf("%s lacks the key %s, which signs from %s; copy %s to %s before then",
			path, tasker.KeyID(key.Public), key.SignsFrom.UTC().Format(time.RFC3339), key.Origin, path)
	case due:
		s.current, s.problem = private, nil
	}
}

func missingError(kind, path string, key store.SigningKey) error {
	return fmt.Errorf("%w: %s does not contain the %s of %s, with which the control planes of this database sign; copy the file %s to %s on this host",
		ErrMissing, path, kind, tasker.KeyID(key.Public), key.Origin, path)
}
