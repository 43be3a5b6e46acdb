package signing_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
)

const week = 7 * 24 * time.Hour

func rotate(t *testing.T, f *fixture, overlap time.Duration) signing.Rotation {
	t.Helper()
	r, err := signing.Rotate(t.Context(), f.options(), signing.RotateOptions{Overlap: overlap})
	must(t, err)
	return r
}

func ids(keys [][]byte) []string {
	var list []string
	for _, key := range keys {
		list = append(list, tasker.KeyID(key))
	}
	return list
}

func TestRotation(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		k := f.open(t)
		old := ed25519.PublicKey(k.PublicKeys()[0])
		start := f.Now()
		r := rotate(t, f, week)
		if !r.SignsFrom.Equal(start.Add(week)) || !r.Retires.Equal(start.Add(week+time.Hour)) {
			t.Errorf("rotation %+v", r)
		}
		must(t, k.Refresh(t.Context()))
		verify(t, k, old)
		if got := ids(k.PublicKeys()); len(got) != 2 || got[1] != r.Key {
			t.Fatalf("during the overlap agents accept %v, the new key is %s", got, r.Key)
		}
		next := ed25519.PublicKey(k.PublicKeys()[1])

		welcome := &tasker.Welcome{Session: "s"}
		o := tasker.Order{Endpoint: "web-1", Welcome: welcome}
		must(t, k.Sign(&o))
		if len(o.Welcome.Keys) != 1 || o.Welcome.Keys[0].Verify() != nil || !next.Equal(ed25519.PublicKey(o.Welcome.Keys[0].Key)) ||
			!old.Equal(ed25519.PublicKey(o.Welcome.Keys[0].By)) || !o.Welcome.Keys[0].Retires.Equal(r.Retires) {
			t.Errorf("the welcome has %+v", o.Welcome.Keys)
		}
		if welcome.Keys != nil {
			t.Error("the caller's welcome was changed")
		}
		// An agent that does not know endorsements verifies the welcome without them.
		o.Welcome.Keys = nil
		if err := o.Verify([]ed25519.PublicKey{old}); err != nil {
			t.Errorf("without endorsements: %v", err)
		}

		f.advance(week - time.Second)
		must(t, k.Refresh(t.Context()))
		verify(t, k, old)
		f.advance(time.Second)
		must(t, k.Refresh(t.Context()))
		verify(t, k, next)
		if len(k.PublicKeys()) != 2 {
			t.Error("the old key has retired too early")
		}
		f.advance(time.Hour)
		must(t, k.Refresh(t.Context()))
		if got := k.PublicKeys(); len(got) != 1 || !next.Equal(ed25519.PublicKey(got[0])) {
			t.Errorf("after the overlap agents accept %v", ids(got))
		}
		verify(t, f.open(t), next)
		rotate(t, f, week)
		if n := strings.Count(read(t, f.file), "BEGIN PRIVATE KEY"); n != 2 {
			t.Errorf("the file has %d keys after the next rotation, want 2 without the retired one", n)
		}
	})
}

func TestRotationAtOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		k := f.open(t)
		rotate(t, f, week)
		if _, err := signing.Rotate(t.Context(), f.options(), signing.RotateOptions{Overlap: week}); err == nil || !strings.Contains(err.Error(), "under way until 2030-01-08") {
			t.Errorf("a second rotation: %v", err)
		}
		r := rotate(t, f, 0)
		must(t, k.Refresh(t.Context()))
		if !r.Retires.Equal(f.Now()) {
			t.Errorf("rotation %+v", r)
		}
		keys := k.PublicKeys()
		verify(t, k, keys[len(keys)-1])
		o := tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{}}
		must(t, k.Sign(&o))
		if len(o.Welcome.Keys) != 2 {
			t.Errorf("%d endorsements, want the whole chain", len(o.Welcome.Keys))
		}
	})
}

// Another control plane signs with the old key until it has retired, and then not at all.
func TestControlPlaneWithoutNewKey(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		old := ed25519.PublicKey(f.open(t).PublicKeys()[0])
		other := *f
		other.file = filepath.Join(t.TempDir(), "copy.key")
		must(t, os.WriteFile(other.file, []byte(read(t, f.file)), 0o600))
		k := other.open(t)
		rotate(t, f, week)
		must(t, k.Refresh(t.Context()))
		f.advance(week)
		if err := k.Refresh(t.Context()); !errors.Is(err, signing.ErrMissing) || !strings.Contains(err.Error(), f.file) || k.Check(t.Context()) == nil {
			t.Errorf("after the overlap: %v, %v", err, k.Check(t.Context()))
		}
		verify(t, k, old)
		f.advance(time.Hour)
		if err := k.Refresh(t.Context()); !errors.Is(err, signing.ErrMissing) {
			t.Errorf("Refresh = %v", err)
		}
		if err := k.Sign(&tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{}}); !errors.Is(err, signing.ErrMissing) {
			t.Errorf("Sign = %v", err)
		}
		must(t, os.WriteFile(other.file, []byte(read(t, f.file)), 0o600))
		must(t, k.Refresh(t.Context()))
		verify(t, k, k.PublicKeys()[0])
		must(t, k.Check(t.Context()))
	})
}

// A rotation that crashed before it reached the database can be repeated.
func TestRotationAfterCrash(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		k := f.open(t)
		old := ed25519.PublicKey(k.PublicKeys()[0])
		crashing := f.options()
		crashing.Store = failingStore{f.store}
		if _, err := signing.Rotate(t.Context(), crashing, signing.RotateOptions{Overlap: week}); !errors.Is(err, errCrash) {
			t.Errorf("Rotate = %v", err)
		}
		must(t, k.Refresh(t.Context()))
		verify(t, k, old)
		rotate(t, f, week)
		if n := strings.Count(read(t, f.file), "BEGIN PRIVATE KEY"); n != 2 {
			t.Errorf("the file has %d keys, want 2", n)
		}
	})
}

func TestRotationAfterLoss(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		old := ed25519.PublicKey(f.open(t).PublicKeys()[0])
		if _, err := signing.Rotate(t.Context(), f.options(), signing.RotateOptions{Lost: true}); err == nil {
			t.Error("a key that is not lost was replaced")
		}
		must(t, os.Remove(f.file))
		if _, err := signing.Open(t.Context(), f.options()); !errors.Is(err, signing.ErrMissing) {
			t.Errorf("Open = %v", err)
		}
		if _, err := signing.Rotate(t.Context(), f.options(), signing.RotateOptions{}); !errors.Is(err, signing.ErrMissing) || !strings.Contains(err.Error(), "--lost") {
			t.Errorf("Rotate = %v", err)
		}
		_, err := signing.Rotate(t.Context(), f.options(), signing.RotateOptions{Lost: true, Overlap: week})
		must(t, err)
		k := f.open(t)
		if keys := k.PublicKeys(); len(keys) != 1 || old.Equal(ed25519.PublicKey(keys[0])) || len(k.CallbackSecret()) != 32 {
			t.Errorf("agents accept %v", ids(keys))
		}
		verify(t, k, k.PublicKeys()[0])
	})
}

// The rotated file keeps its mode, and a link to it stays a link.
func TestRotationKeepsFileMode(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.open(t)
		must(t, os.Chmod(f.file, 0o400))
		target := f.file
		f.file = filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(target, f.file))
		rotate(t, f, week)
		info, err := os.Lstat(target)
		must(t, err)
		if link, err := os.Lstat(f.file); err != nil || link.Mode().Type() != os.ModeSymlink || info.Mode() != 0o400 {
			t.Errorf("link %v, file %v, %v", link.Mode(), info.Mode(), err)
		}
	})
}
