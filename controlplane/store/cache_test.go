package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// TestWhoSpeaksIsLookedUpOnce counts queries: on SQLite one, until a credential
// changes; on MySQL, where other control planes change them, too, one each time.
func TestWhoSpeaksIsLookedUpOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "t", 9)
		_, err := f.Enrol(t.Context(), digest("t"), "web-1", digest("s"))
		must(t, err)
		var queries atomic.Int32
		ask := func(enrolled, revoked bool, owner string) int {
			t.Helper()
			f.Trace(func(string, []any) { queries.Add(1) })
			defer f.Trace(nil)
			queries.Store(0)
			for range 3 {
				c, err := f.Credential(t.Context(), "web-1")
				if err != nil || (c.EnrolledAt != nil) != enrolled || (c.RevokedAt != nil) != revoked {
					t.Errorf("%+v, %v; want enrolled %t, revoked %t", c, err, enrolled, revoked)
				}
			}
			for range 3 {
				name, err := f.Identify(t.Context(), digest("s"))
				if name != owner || (err != nil) != (owner == "") {
					t.Errorf("the secret is that of %q, %v; want %q", name, err, owner)
				}
			}
			return int(queries.Load())
		}
		once, twice := 6, 6
		if f.Dialect() == "sqlite" {
			once, twice = 2, 0
		}
		if got := ask(true, false, "web-1"); got != once {
			t.Errorf("%d queries, want %d", got, once)
		}
		if got := ask(true, false, "web-1"); got != twice {
			t.Errorf("%d queries the second time, want %d", got, twice)
		}
		_, err = f.RevokeEndpoint(t.Context(), "web-1", "admin")
		must(t, err)
		ask(true, true, "")
		_, err = f.Enrol(t.Context(), digest("t"), "web-1", digest("anew"))
		must(t, err)
		ask(true, false, "")
		if name, err := f.Identify(t.Context(), digest("anew")); name != "web-1" || err != nil {
			t.Errorf("the new secret is that of %q, %v", name, err)
		}
	})
}

// A change that is stored while something is being read may not have been seen.
func TestWhatWasReadDuringAChangeIsNotKept(t *testing.T) {
	t.Parallel()
	k := store.NewCache()
	get := func(value string, during func()) string {
		got, err := k.Get("web-1", func() (string, error) {
			during()
			return value, nil
		})
		must(t, err)
		return got
	}
	if got := get("before", k.Clear); got != "before" {
		t.Errorf("read %q", got)
	}
	if got := get("after", func() {}); got != "after" {
		t.Errorf("after the change %q is known", got)
	}
	if got := get("later", func() {}); got != "after" {
		t.Errorf("read %q again", got)
	}
	k.Clear()
	if _, err := k.Get("web-1", func() (string, error) { return "", context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("returned %v", err)
	}
	if got := get("well", func() {}); got != "well" {
		t.Errorf("after an error %q is known", got)
	}
}
