package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestSigningKeysOfOneControlPlaneWin(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		var stored atomic.Int32
		for i := range byte(8) {
			wg.Go(func() {
				keys := []store.SigningKey{
					{Name: store.OrderKeys, Generation: 1, Public: bytes.Repeat([]byte{i}, 32)},
					{Name: store.CallbackKeys, Generation: 1, Public: bytes.Repeat([]byte{i}, 32)},
				}
				switch err := f.AddSigningKeys(t.Context(), keys...); {
				case err == nil:
					stored.Add(1)
				case !errors.Is(err, store.ErrGenerationExists):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		orders, err := f.ListSigningKeys(t.Context(), store.OrderKeys)
		must(t, err)
		callbacks, err := f.ListSigningKeys(t.Context(), store.CallbackKeys)
		must(t, err)
		if stored.Load() != 1 || len(orders) != 1 || len(callbacks) != 1 || !bytes.Equal(orders[0].Public, callbacks[0].Public) {
			t.Errorf("%d stored: %+v and %+v", stored.Load(), orders, callbacks)
		}
	})
}

func TestSigningKeyReplacesSeed(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx, seed := t.Context(), []byte("this is the secret of the fleet!")
		_, err := f.Writer().ExecContext(ctx, "INSERT INTO signing_keys (name, seed, created_at) VALUES ('orders', ?, 1), ('callbacks', ?, 1)", seed, seed)
		must(t, err)
		got, err := f.Seed(ctx, store.OrderKeys)
		must(t, err)
		if !bytes.Equal(got, seed) {
			t.Errorf("the seed is %q", got)
		}
		retires := time.UnixMicro(1_800_000_000_000_000).UTC()
		key := store.SigningKey{Name: store.OrderKeys, Generation: 1, Public: bytes.Repeat([]byte{7}, 32), Retires: &retires, Signature: []byte("s"), Origin: "cp-1:/signing.key"}
		must(t, f.AddSigningKeys(ctx, key))
		stored, err := f.ListSigningKeys(ctx, store.OrderKeys)
		must(t, err)
		if len(stored) != 1 || stored[0].Origin != key.Origin || !stored[0].Retires.Equal(retires) || stored[0].CreatedAt.IsZero() || stored[0].SignsFrom.IsZero() {
			t.Errorf("stored %+v", stored)
		}
		if got, err := f.Seed(ctx, store.OrderKeys); err != nil || got != nil {
			t.Errorf("the seed is still %q, %v", got, err)
		}
		if got, err := f.Seed(ctx, store.CallbackKeys); err != nil || got == nil {
			t.Errorf("the other seed is %q, %v", got, err)
		}
		must(t, f.AddSigningKeys(ctx, store.SigningKey{Name: store.CallbackKeys, Generation: 1, Public: make([]byte, 32)}))
		if f.Dialect() != "sqlite" {
			return
		}
		files, err := filepath.Glob(filepath.Join(f.options.DataDir, "tasker.db*"))
		must(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			must(t, err)
			if bytes.Contains(content, seed) {
				t.Errorf("%s contains the seed", file)
			}
		}
		if len(files) == 0 {
			t.Error("there is no database file")
		}
	})
}

// An agent that does not know the newest key gets a welcome for its heartbeat, which
// introduces the key.
func TestHeartbeatWithOldKeyIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const oldKey, newKey = "00000000000000aa", "00000000000000bb"
		hello := tasker.Hello{Session: "s", Presence: tasker.Presence{Key: oldKey, Heartbeat: tasker.Duration(10 * time.Second)}}
		f.apply(t, tasker.Report{Endpoint: "web-1", Hello: &hello})
		heartbeat := func(key string) []tasker.Order {
			p := hello.Presence
			p.Key = key
			return f.apply(t, tasker.Report{Endpoint: "web-1", Heartbeat: &tasker.Heartbeat{Presence: p}}).Orders
		}
		if orders := heartbeat(oldKey); len(orders) != 0 {
			t.Errorf("while the newest key is unknown: %+v", orders)
		}
		f.SetNewestKey(newKey)
		if orders := heartbeat(oldKey); len(orders) != 1 || orders[0].Welcome == nil || orders[0].Welcome.Session != "s" {
			t.Errorf("for the old key: %+v", orders)
		}
		for _, key := range []string{newKey, ""} {
			if orders := heartbeat(key); len(orders) != 0 {
				t.Errorf("for the key %q: %+v", key, orders)
			}
		}
	})
}
