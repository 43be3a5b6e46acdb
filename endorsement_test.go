package tasker_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func TestEndorsement(t *testing.T) {
	t.Parallel()
	oldPublic, old, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	newPublic, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := tasker.Endorsement{Key: newPublic, Retires: time.Now()}
	e.Sign(old)
	encoded, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var decoded tasker.Endorsement
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	if err := decoded.Verify(); err != nil {
		t.Errorf("after JSON: %v", err)
	}
	for name, forge := range map[string]func(*tasker.Endorsement){
		"another key":        func(e *tasker.Endorsement) { e.Key = oldPublic },
		"another signer":     func(e *tasker.Endorsement) { e.By = newPublic },
		"a later retirement": func(e *tasker.Endorsement) { e.Retires = e.Retires.Add(time.Hour) },
		"no signature":       func(e *tasker.Endorsement) { e.Signature = nil },
		"a short key":        func(e *tasker.Endorsement) { e.Key = e.Key[:8] },
		"a short signer":     func(e *tasker.Endorsement) { e.By = e.By[:8] },
	} {
		forged := e
		if forge(&forged); !errors.Is(forged.Verify(), tasker.ErrSignature) {
			t.Errorf("%s is accepted", name)
		}
	}
}
