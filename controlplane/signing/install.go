package signing

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Store keeps the public part of the keys. *store.Store implements it.
type Store interface {
	ListSigningKeys(ctx context.Context, name string) ([]store.SigningKey, error)
	AddSigningKeys(ctx context.Context, keys ...store.SigningKey) error
	Seed(ctx context.Context, name string) ([]byte, error)
	SetNewestKey(id string)
	Now(ctx context.Context) (time.Time, error)
}

// Options configure Open and Rotate.
type Options struct {
	Store Store
	// File is the path of the key file.
	File string
	Log  *slog.Logger
}

// maxInstalls bounds the tries of install, which repeats when another process has created
// the file meanwhile.
const maxInstalls = 3

// install creates the keys if the database does not know them yet. Keys that an older
// version has stored in the database are written to the file first: they are on the
// disk before they are removed from the database, so a crash loses no key.
func (o Options) install(ctx context.Context) error {
	for try := 1; ; try++ {
		// The seeds are read first: the transaction that adds the keys removes them.
		seed, err := o.Store.Seed(ctx, store.OrderKeys)
		if err != nil {
			return err
		}
		secret, err := o.Store.Seed(ctx, store.CallbackKeys)
		if err != nil {
			return err
		}
		keys, err := o.Store.ListSigningKeys(ctx, store.OrderKeys)
		if err != nil || len(keys) > 0 {
			return err
		}
		err = o.installFirst(ctx, seed, secret)
		if !errors.Is(err, fs.ErrExist) || try == maxInstalls {
			return err
		}
	}
}

// installFirst writes the first keys to the file and registers them. seed and secret are
// the keys that an older version has stored, or nil.
func (o Options) installFirst(ctx context.Context, seed, secret []byte) error {
	file, err := readFile(o.File)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return err
	}
	changed, err := file.addFirst(seed, secret, o.File)
	switch {
	case err != nil:
		return err
	case isNew:
		err = file.create(o.File)
	case changed:
		err = file.replace(o.File)
	}
	if err != nil {
		return err
	}
	err = o.Store.AddSigningKeys(ctx,
		store.SigningKey{Name: store.OrderKeys, Generation: 1, Public: file.latest(), Origin: origin(o.File)},
		store.SigningKey{Name: store.CallbackKeys, Generation: 1, Public: digest(file.callback), Origin: origin(o.File)})
	if errors.Is(err, store.ErrGenerationExists) {
		err = nil // another control plane has stored it, perhaps with the same keys
	}
	if err == nil && isNew {
		err = o.removeUnusedFile(ctx, file.latest())
	}
	return err
}

// removeUnusedFile removes the new file if another control plane has registered its key
// first.
func (o Options) removeUnusedFile(ctx context.Context, own []byte) error {
	keys, err := o.Store.ListSigningKeys(ctx, store.OrderKeys)
	if err != nil {
		return err
	}
	if len(keys) == 0 || !bytes.Equal(keys[0].Public, own) {
		if err := os.Remove(o.File); err != nil {
			return fmt.Errorf("remove a signing key that is not used: %w", err)
		}
		return nil
	}
	o.Log.Info("signing key written; back the file up, because agents accept no other key", "file", o.File, "key", tasker.KeyID(own))
	return nil
}

// addFirst adds the first keys to the file. seed and secret are the keys that an older
// version has stored in the database, or nil. It reports whether it has changed the file.
func (f *keyFile) addFirst(seed, secret []byte, path string) (changed bool, err error) {
	switch {
	case seed != nil && len(seed) != ed25519.SeedSize:
		return false, fmt.Errorf("the signing key in the database has %d bytes, want %d", len(seed), ed25519.SeedSize)
	case seed != nil:
		key := ed25519.NewKeyFromSeed(seed)
		switch {
		case f.private(publicKey(key)) != nil:
		case len(f.orders) > 0:
			return false, fmt.Errorf("%s contains another signing key than %s, which is in the database and which the enrolled agents accept; move the file away, then the control plane writes the key of the database to it", path, tasker.KeyID(publicKey(key)))
		default:
			f.orders, changed = append(f.orders, key), true
		}
	case len(f.orders) == 0:
		f.orders, changed = append(f.orders, newOrderKey()), true
	}
	switch {
	case f.callback == nil && secret == nil:
		secret = newCallbackSecret()
	case f.callback != nil && secret != nil && !bytes.Equal(secret, f.callback):
		return false, fmt.Errorf("%s contains another callback secret than the database; remove its block %q, then the control plane writes the secret of the database to it", path, callbackBlock)
	}
	if f.callback == nil {
		f.callback, changed = secret, true
	}
	return changed, nil
}

// latest returns the public key of the last key in the file.
func (f keyFile) latest() []byte {
	if len(f.orders) == 0 {
		return nil
	}
	return publicKey(f.orders[len(f.orders)-1])
}

// origin describes where a key was created, for messages on other hosts.
func origin(path string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "the first control plane"
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return host + ":" + path
}
