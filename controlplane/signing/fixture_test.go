package signing_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a database with the key file of one control plane.
type fixture struct {
	*clock
	database store.Options
	store    *store.Store
	file     string
}

// each runs a test on both databases.
func each(t *testing.T, test func(*testing.T, *fixture)) {
	t.Helper()
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{clock: &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, database: options(t)}
			f.database.Clock = f.Now
			f.store = storetest.Open(t, f.database)
			f.file = filepath.Join(t.TempDir(), "signing.key")
			test(t, f)
		})
	}
}

func (f *fixture) options() signing.Options {
	return signing.Options{Store: f.store, File: f.file, Log: slog.New(slog.DiscardHandler)}
}

func (f *fixture) open(t *testing.T) *signing.Keyring {
	t.Helper()
	k, err := signing.Open(t.Context(), f.options())
	must(t, err)
	return k
}

// insertSeeds stores the keys as an older version did.
func (f *fixture) insertSeeds(t *testing.T, orders, callbacks []byte) {
	t.Helper()
	for name, seed := range map[string][]byte{"orders": orders, "callbacks": callbacks} {
		if seed != nil {
			storetest.Exec(t, f.database, "INSERT INTO signing_keys (name, seed, created_at) VALUES (?, ?, 1)", name, seed)
		}
	}
}

// verify checks that the Keyring signs with one of the keys.
func verify(t *testing.T, k *signing.Keyring, key ed25519.PublicKey) {
	t.Helper()
	o := tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s"}}
	must(t, k.Sign(&o))
	if err := o.Verify([]ed25519.PublicKey{key}); err != nil {
		t.Errorf("the order is not signed with %s: %v", tasker.KeyID(key), err)
	}
}

// failingStore fails instead of adding keys.
type failingStore struct{ signing.Store }

var errCrash = errors.New("crash")

func (failingStore) AddSigningKeys(context.Context, ...store.SigningKey) error { return errCrash }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return string(content)
}
