package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func digest(secret string) store.Digest { return sha256.Sum256([]byte(secret)) }

// token stores an enrolment token that is valid for an hour.
func (f *fixture) token(t *testing.T, secret string, uses int) tasker.EnrolToken {
	t.Helper()
	got, err := f.CreateEnrolToken(t.Context(), tasker.EnrolToken{ID: "id-of-" + secret, CreatedBy: "admin", MaxUses: uses}, digest(secret), time.Hour)
	must(t, err)
	return got
}

func TestEnrolTokens(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a := f.token(t, "a", 2)
		if a.CreatedAt != f.Now() || a.ExpiresAt != f.Now().Add(time.Hour) {
			t.Errorf("created %+v at %s", a, f.Now())
		}
		f.token(t, "b", 1)
		_, err := f.Enrol(t.Context(), digest("b"), "web-1", digest("s"))
		must(t, err)
		must(t, f.RevokeEnrolToken(t.Context(), a.ID))
		f.Add(time.Minute)
		must(t, f.RevokeEnrolToken(t.Context(), a.ID))
		if err := f.RevokeEnrolToken(t.Context(), "unknown"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoking an unknown token: %v", err)
		}
		list, err := f.EnrolTokens(t.Context(), 10)
		must(t, err)
		if len(list) != 2 || list[0].ID != "id-of-b" || list[0].Uses != 1 || list[0].RevokedAt != nil || list[1].RevokedAt == nil ||
			!list[1].RevokedAt.Equal(f.Now().Add(-time.Minute)) || list[1].MaxUses != 2 || list[1].CreatedBy != "admin" {
			t.Errorf("listed %+v", list)
		}
		if list, err = f.EnrolTokens(t.Context(), 1); err != nil || len(list) != 1 {
			t.Errorf("%d listed, %v, want 1", len(list), err)
		}
	})
}

func TestEnrol(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "good", 3)
		f.token(t, "once", 1)
		f.token(t, "revoked", 3)
		must(t, f.RevokeEnrolToken(t.Context(), "id-of-revoked"))
		f.apply(t, hello("plain", "s"))
		steps := []struct {
			name, token, endpoint, secret string
			repeated                      bool
			err                           error
			text                          string
		}{
			{"unknown token", "unknown", "web-1", "s1", false, store.ErrToken, "not known"},
			{"revoked token", "revoked", "web-1", "s1", false, store.ErrToken, "revoked at"},
			{"good", "good", "web-1", "s1", false, nil, ""},
			{"again", "good", "web-1", "s1", true, nil, ""},
			{"again, with another token", "once", "web-1", "s1", true, nil, ""},
			{"again, without a token", "unknown", "web-1", "s1", false, store.ErrToken, "not known"},
			{"another secret, same name", "good", "web-1", "s2", false, store.ErrTaken, "enrolled since"},
			{"another name, same secret", "good", "web-2", "s1", false, store.ErrTaken, "generate a new random one"},
			{"connected without enrolment", "good", "plain", "s3", false, store.ErrTaken, "connected"},
			{"once", "once", "web-2", "s2", false, nil, ""},
			{"used up", "once", "web-3", "s3", false, store.ErrToken, "used up"},
			{"again, used up", "once", "web-2", "s2", true, nil, ""},
		}
		for _, s := range steps {
			repeated, err := f.Enrol(t.Context(), digest(s.token), s.endpoint, digest(s.secret))
			if repeated != s.repeated || !errors.Is(err, s.err) || err != nil && !strings.Contains(err.Error(), s.text) {
				t.Errorf("%s: %t, %v; want %t, %v", s.name, repeated, err, s.repeated, s.err)
			}
		}
		f.Add(time.Hour)
		if _, err := f.Enrol(t.Context(), digest("good"), "web-9", digest("s9")); !errors.Is(err, store.ErrToken) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after the token expired: %v", err)
		}
		if repeated, err := f.Enrol(t.Context(), digest("good"), "web-1", digest("s1")); !repeated || err != nil {
			t.Errorf("repeated after the token expired: %t, %v", repeated, err)
		}
		// The agent that was connected has been silent since.
		f.token(t, "new", 1)
		if _, err := f.Enrol(t.Context(), digest("new"), "plain", digest("s3")); err != nil {
			t.Errorf("the name of a disconnected agent: %v", err)
		}
		for secret, want := range map[string]string{"s1": "web-1", "s2": "web-2", "s3": "plain", "s9": "", "": ""} {
			got, err := f.Identify(t.Context(), digest(secret))
			if got != want || (want == "") != errors.Is(err, store.ErrNotFound) {
				t.Errorf("Identify(%s) = %q, %v, want %q", secret, got, err, want)
			}
		}
		e, err := f.Endpoint(t.Context(), "web-1")
		if err != nil || e.EnrolledAt == nil || e.RevokedAt != nil || e.Connected {
			t.Errorf("enrolled and never connected: %+v, %v", e, err)
		}
	})
}

func TestEnrolRespectsMaxUsesConcurrently(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "t", 5)
		var wg sync.WaitGroup
		var enrolled, refused atomic.Int32
		for i := range 20 {
			wg.Go(func() {
				_, err := f.Enrol(t.Context(), digest("t"), fmt.Sprintf("web-%d", i), digest(fmt.Sprint("s", i)))
				switch {
				case err == nil:
					enrolled.Add(1)
				case errors.Is(err, store.ErrToken):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if enrolled.Load() != 5 || refused.Load() != 15 {
			t.Errorf("%d enrolled, %d refused, want 5 and 15", enrolled.Load(), refused.Load())
		}
	})
}

func TestEnrolOneNameConcurrently(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var wg sync.WaitGroup
		var enrolled atomic.Int32
		for i := range 8 {
			f.token(t, fmt.Sprint("t", i), 1)
		}
		for i := range 8 {
			wg.Go(func() {
				_, err := f.Enrol(t.Context(), digest(fmt.Sprint("t", i)), "web-1", digest(fmt.Sprint("s", i)))
				switch {
				case err == nil:
					enrolled.Add(1)
				case !errors.Is(err, store.ErrTaken):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if enrolled.Load() != 1 {
			t.Errorf("%d agents were enrolled under the name, want 1", enrolled.Load())
		}
	})
}

func TestRevokeEndpoint(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "t", 5)
		for _, name := range []string{"web-1", "web-2"} {
			_, err := f.Enrol(t.Context(), digest("t"), name, digest(name))
			must(t, err)
		}
		f.apply(t, hello("web-1", "s"), hello("web-2", "s"), hello("plain", "s"))
		running := f.create(t, request("running", "web-1", "web-2"))
		cancelled := f.create(t, request("cancelled", "web-1"))
		f.apply(t, update("web-1", running.ID, 1, 1, tasker.Running), update("web-1", cancelled.ID, 1, 1, tasker.Received))
		_, err := f.CancelTask(t.Context(), "ping", "cancelled", "")
		must(t, err)
		waiting := f.create(t, request("waiting", "web-1"))

		finished, err := f.RevokeEndpoint(t.Context(), "web-1", "admin")
		must(t, err)
		if len(finished) != 1 || finished[0].ID != cancelled.ID {
			t.Errorf("finished %+v, want the cancelled task", finished)
		}
		responses := f.want(t, running.ID, "running", "web-1", "interrupted", "web-2", "pending")
		if r := responses["web-1"]; r.Reason != "revoked" || !r.Presumed {
			t.Errorf("response of the revoked endpoint: %+v", r)
		}
		f.want(t, cancelled.ID, "cancelled", "web-1", "interrupted")
		f.want(t, waiting.ID, "pending", "web-1", "pending")
		revoked := f.Now()
		f.Add(30 * time.Second)
		_, _, err = f.ExpireMissing(t.Context(), time.Time{}, 100)
		must(t, err)
		responses = f.want(t, waiting.ID, "incomplete", "web-1", "missing")
		if r := responses["web-1"]; r.Reason != "revoked at "+revoked.Format(time.RFC3339) {
			t.Errorf("reason %q", r.Reason)
		}

		if name, err := f.Identify(t.Context(), digest("web-1")); name != "" || !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the revoked secret belongs to %q, %v", name, err)
		}
		if name, err := f.Identify(t.Context(), digest("web-2")); name != "web-2" || err != nil {
			t.Errorf("the other secret belongs to %q, %v", name, err)
		}
		if _, err := f.Enrol(t.Context(), digest("t"), "web-1", digest("web-1")); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("enrolling with the revoked secret: %v", err)
		}
		f.Add(time.Minute)
		finished, err = f.RevokeEndpoint(t.Context(), "web-1", "another")
		e, errRead := f.Endpoint(t.Context(), "web-1")
		if err != nil || errRead != nil || len(finished) > 0 || e.Connected || !e.RevokedAt.Equal(revoked) {
			t.Errorf("revoked twice: %+v, %v, %v, %v", e, finished, err, errRead)
		}
		f.token(t, "later", 5)
		repeated, err := f.Enrol(t.Context(), digest("later"), "web-1", digest("new"))
		c, errRead := f.Credential(t.Context(), "web-1")
		if err != nil || errRead != nil || repeated || c.EnrolledAt == nil || c.RevokedAt != nil {
			t.Errorf("enrolled again: %t, %+v, %v, %v", repeated, c, err, errRead)
		}

		// An endpoint that was never enrolled can be revoked too.
		_, err = f.RevokeEndpoint(t.Context(), "plain", "admin")
		must(t, err)
		list, err := f.Endpoints(t.Context(), 10, "")
		if err != nil || len(list) != 3 || list[0].Name != "plain" || list[0].RevokedAt == nil || list[0].EnrolledAt != nil || list[1].EnrolledAt == nil {
			t.Errorf("listed %+v, %v", list, err)
		}
		if _, err := f.Enrol(t.Context(), digest("later"), "plain", digest("p")); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("enrolling after the revocation with an older token: %v", err)
		}
		f.Add(time.Second)
		f.token(t, "latest", 5)
		if _, err := f.Enrol(t.Context(), digest("latest"), "plain", digest("p")); err != nil {
			t.Errorf("enrolling after the revocation: %v", err)
		}
		if _, err := f.RevokeEndpoint(t.Context(), "nobody", "admin"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoking an unknown endpoint: %v", err)
		}
	})
}

// A revoked server has its old secret, and may have a token with uses left.
func TestRevokedServerCannotEnrolAgainByItself(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		enrol := func(token, endpoint, secret string) error {
			_, err := f.Enrol(t.Context(), digest(token), endpoint, digest(secret))
			return err
		}
		revoke := func() {
			_, err := f.RevokeEndpoint(t.Context(), "web-1", "admin")
			must(t, err)
		}
		f.token(t, "before", 9)
		must(t, enrol("before", "web-1", "s1"))
		revoke() // at the time at which the token was created
		for _, secret := range []string{"s1", "s2"} {
			if err := enrol("before", "web-1", secret); !errors.Is(err, store.ErrRevoked) {
				t.Errorf("secret %s with the older token: %v, want ErrRevoked", secret, err)
			}
		}
		f.Add(time.Second)
		f.token(t, "after", 9)
		for _, endpoint := range []string{"web-1", "web-2"} {
			if err := enrol("after", endpoint, "s1"); err == nil {
				t.Errorf("%s enrolled with the revoked secret and a new token", endpoint)
			}
		}
		must(t, enrol("after", "web-1", "s2"))
		f.Add(time.Second)
		revoke()
		f.Add(time.Second)
		f.token(t, "last", 9)
		for _, endpoint := range []string{"web-1", "web-2"} {
			for _, secret := range []string{"s1", "s2"} {
				if err := enrol("last", endpoint, secret); err == nil {
					t.Errorf("%s enrolled with the revoked secret %s", endpoint, secret)
				}
			}
		}
		if err := enrol("after", "web-1", "s3"); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("with a token between the revocations: %v, want ErrRevoked", err)
		}
		must(t, enrol("last", "web-1", "s3"))
		if err := enrol("last", "web-2", "s2"); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("another endpoint with a secret revoked twice ago: %v, want ErrRevoked", err)
		}
		tokens, err := f.EnrolTokens(t.Context(), 10)
		must(t, err)
		for _, token := range tokens {
			if token.Uses != 1 {
				t.Errorf("token %s has %d uses, want 1: refused enrolments do not count", token.ID, token.Uses)
			}
		}
	})
}
