package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// On SQLite a credential is read once until it changes. On MySQL, where other control
// planes change credentials too, every call reads it.
func TestCredentialsAreCached(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "t", 9)
		_, err := f.Enrol(t.Context(), digest("t"), "web-1", digest("s"))
		must(t, err)
		var queries atomic.Int32
		countQueries := func(enrolled, revoked bool, owner string) int {
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
					t.Errorf("the secret belongs to %q, %v; want %q", name, err, owner)
				}
			}
			return int(queries.Load())
		}
		first, second := 6, 6
		if f.Dialect() == "sqlite" {
			first, second = 2, 0
		}
		if got := countQueries(true, false, "web-1"); got != first {
			t.Errorf("%d queries, want %d", got, first)
		}
		if got := countQueries(true, false, "web-1"); got != second {
			t.Errorf("%d queries the second time, want %d", got, second)
		}
		_, err = f.RevokeEndpoint(t.Context(), "web-1", "admin")
		must(t, err)
		countQueries(true, true, "")
		f.Add(time.Second)
		f.token(t, "later", 1)
		_, err = f.Enrol(t.Context(), digest("later"), "web-1", digest("new"))
		must(t, err)
		countQueries(true, false, "")
		if name, err := f.Identify(t.Context(), digest("new")); name != "web-1" || err != nil {
			t.Errorf("the new secret belongs to %q, %v", name, err)
		}
	})
}

// A value that was read while the cache was cleared may be outdated.
func TestCacheDropsValuesReadDuringClear(t *testing.T) {
	t.Parallel()
	cache := store.NewCache()
	get := func(value string, during func()) string {
		got, err := cache.Get("web-1", func() (string, error) {
			during()
			return value, nil
		})
		must(t, err)
		return got
	}
	if got := get("before", cache.Clear); got != "before" {
		t.Errorf("got %q", got)
	}
	if got := get("after", func() {}); got != "after" {
		t.Errorf("after the change %q is cached", got)
	}
	if got := get("later", func() {}); got != "after" {
		t.Errorf("got %q, want the cached value", got)
	}
	cache.Clear()
	if _, err := cache.Get("web-1", func() (string, error) { return "", context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := get("fixed", func() {}); got != "fixed" {
		t.Errorf("after an error %q is cached", got)
	}
}
