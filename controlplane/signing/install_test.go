package signing_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/signing"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

func TestFirstStartCreatesFile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first := f.open(t)
		info, err := os.Stat(f.file)
		must(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		second := f.open(t)
		verify(t, second, first.PublicKeys()[0])
		if len(first.CallbackSecret()) != 32 || !bytes.Equal(first.CallbackSecret(), second.CallbackSecret()) {
			t.Errorf("callback secrets %x and %x", first.CallbackSecret(), second.CallbackSecret())
		}
	})
}

// The keys of an older version are written to the file before the database forgets them.
func TestUpgradeMovesKeysToFile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		seed, secret := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		f.insertSeeds(t, seed, secret)
		crashing := f.options()
		crashing.Store = failingStore{f.store}
		if _, err := signing.Open(t.Context(), crashing); !errors.Is(err, errCrash) {
			t.Fatalf("Open = %v", err)
		}
		if got, err := f.store.Seed(t.Context(), "orders"); err != nil || !bytes.Equal(got, seed) {
			t.Errorf("after a crash the database has the seed %x, %v", got, err)
		}
		k := f.open(t)
		verify(t, k, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)) //nolint:errcheck // Ed25519 keys have no other type
		if !bytes.Equal(k.CallbackSecret(), secret) {
			t.Errorf("callback secret %x", k.CallbackSecret())
		}
		for _, name := range []string{"orders", "callbacks"} {
			if got, err := f.store.Seed(t.Context(), name); err != nil || got != nil {
				t.Errorf("the database still has %s: %x, %v", name, got, err)
			}
		}
	})
}

// The key of an installation without callbacks is moved too.
func TestUpgradeWithoutCallbackSecret(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.insertSeeds(t, bytes.Repeat([]byte{1}, 32), nil)
		if k := f.open(t); len(k.CallbackSecret()) != 32 {
			t.Errorf("callback secret %x", k.CallbackSecret())
		}
	})
}

func TestUpgradeRefusesForeignFile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.open(t) // writes a key
		must(t, f.store.Reset(t.Context()))
		f.insertSeeds(t, bytes.Repeat([]byte{1}, 32), nil)
		before := read(t, f.file)
		if _, err := signing.Open(t.Context(), f.options()); err == nil || !strings.Contains(err.Error(), "move the file away") {
			t.Errorf("Open = %v", err)
		}
		if seed, err := f.store.Seed(t.Context(), "orders"); err != nil || seed == nil || read(t, f.file) != before {
			t.Errorf("the seed is %x, %v", seed, err)
		}
	})
}

// A control plane without the file names the file to copy, and creates none.
func TestSecondControlPlaneNeedsFile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first := f.open(t)
		other := *f
		other.file = filepath.Join(t.TempDir(), "signing.key")
		_, err := signing.Open(t.Context(), other.options())
		if !errors.Is(err, signing.ErrMissing) || !strings.Contains(err.Error(), ":"+f.file+" to "+other.file) {
			t.Errorf("Open = %v", err)
		}
		if _, err := os.Stat(other.file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file: %v", err)
		}
		must(t, os.WriteFile(other.file, []byte(read(t, f.file)), 0o600))
		verify(t, other.open(t), first.PublicKeys()[0])
	})
}

// Of control planes that start together on one database, one creates the keys.
func TestControlPlanesStartTogether(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var keys []*signing.Keyring
		for range 4 {
			other := *f
			other.file = filepath.Join(t.TempDir(), "signing.key")
			wg.Go(func() {
				k, err := signing.Open(t.Context(), other.options())
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					keys = append(keys, k)
				case !errors.Is(err, signing.ErrMissing):
					t.Error(err)
				default:
					if _, err := os.Stat(other.file); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("a file that is not used: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if len(keys) != 1 {
			t.Errorf("%d control planes started", len(keys))
		}
	})
}

func TestOpenRefusesFile(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.open(t)
		must(t, os.Chmod(f.file, 0o644))
		if _, err := signing.Open(t.Context(), f.options()); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+f.file) {
			t.Errorf("a readable file: %v", err)
		}
		for _, content := range []string{
			"no PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
			"-----BEGIN TASKER CALLBACK SECRET-----\nAAAA\n-----END TASKER CALLBACK SECRET-----\n",
			read(t, f.file) + "x",
		} {
			must(t, errors.Join(os.WriteFile(f.file, []byte(content), 0o600), os.Chmod(f.file, 0o600)))
			if _, err := signing.Open(t.Context(), f.options()); err == nil || !strings.Contains(err.Error(), f.file) || errors.Is(err, signing.ErrMissing) {
				t.Errorf("%q: %v", content, err)
			}
		}
	})
}
