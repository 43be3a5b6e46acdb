package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

// manualClock is a clock that a test moves.
type manualClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// exhaust sends wrong tokens until the address is limited, and returns how many.
func exhaust(t *testing.T, l *auth.FailureLimiter, address string) int {
	t.Helper()
	a := netip.MustParseAddr(address)
	for n := range 1000 {
		if l.Wait(a, fmt.Sprint("wrong ", n)) > 0 {
			return n
		}
		l.Failed(a, fmt.Sprint("wrong ", n))
	}
	t.Fatal("wrong tokens are not limited")
	return 0
}

func TestFailureLimiter(t *testing.T) {
	t.Parallel()
	c := &manualClock{now: time.Now()}
	l := auth.NewFailureLimiter(c.Now)
	address := netip.MustParseAddr("192.0.2.1")
	l.Accepted("right")
	if n := exhaust(t, l, "192.0.2.1"); n != 30 {
		t.Errorf("%d wrong tokens are accepted at once, want 30", n)
	}
	if wait := l.Wait(address, "new"); wait <= 0 || wait > 2*time.Second {
		t.Errorf("wait %s, want up to 2s", wait)
	}
	if wait := l.Wait(address, "right"); wait != 0 {
		t.Errorf("a token that was right before waits %s", wait)
	}
	if wait := l.Wait(netip.MustParseAddr("192.0.2.2"), "new"); wait != 0 {
		t.Errorf("another address waits %s", wait)
	}
	if wait := l.Wait(netip.MustParseAddr("::ffff:192.0.2.1"), "new"); wait == 0 {
		t.Error("the same address in IPv6 does not wait")
	}
	c.advance(2 * time.Second)
	if wait := l.Wait(address, "new"); wait != 0 {
		t.Errorf("after 2s it waits %s", wait)
	}
	l.Failed(address, "right") // it was revoked
	if wait := l.Wait(address, "right"); wait == 0 {
		t.Error("a token that is no longer right does not wait")
	}
	exhaust(t, l, "2001:db8:1:2::1")
	for text, limited := range map[string]bool{"2001:db8:1:2:ffff::9": true, "2001:db8:1:3::1": false} {
		if wait := l.Wait(netip.MustParseAddr(text), "new"); (wait > 0) != limited {
			t.Errorf("%s waits %s", text, wait)
		}
	}
}

// An attacker with many addresses does not fill the memory, and does not reset the limit
// of an address that is in use.
func TestFailureLimiterForgetsOldAddresses(t *testing.T) {
	t.Parallel()
	l := auth.NewFailureLimiter(time.Now)
	exhaust(t, l, "192.0.2.1")
	address := netip.MustParseAddr("10.0.0.0")
	for range 8192 {
		l.Failed(address, "x")
		address = address.Next()
	}
	if l.Wait(netip.MustParseAddr("192.0.2.1"), "new") != 0 {
		t.Error("the address that was used longest ago is still known")
	}
	if l.Addresses() != 8192 {
		t.Errorf("%d addresses are known, want 8192", l.Addresses())
	}
}

func TestAuthorizeLimitsWrongTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	secret := strings.Repeat("a", 43)
	if _, _, err := f.Enrol(t.Context(), f.token(t, 1), enrolRequest("web-1", "a")); err != nil {
		t.Fatal(err)
	}
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: accessTokens, Enroller: f.Enroller})
	if err != nil {
		t.Fatal(err)
	}
	status := func(token string, required auth.Role) int {
		r := httptest.NewRequest(http.MethodGet, "http://tasker.example/endpoints", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := authorizer.Authorize(r, required)
		var denied *auth.DeniedError
		if errors.As(err, &denied) {
			if (denied.RetryAfter > 0) != (denied.Status == http.StatusTooManyRequests) {
				t.Errorf("status %d with Retry-After %s", denied.Status, denied.RetryAfter)
			}
			return denied.Status
		}
		return http.StatusOK
	}
	if got := status(secret, auth.Agent); got != http.StatusOK {
		t.Fatalf("the secret: %d", got)
	}
	counts := map[int]int{}
	for i := range 100 {
		counts[status(fmt.Sprintf("%043d", i), auth.Admin)]++
	}
	if counts[http.StatusUnauthorized] < 30 || counts[http.StatusUnauthorized] > 40 || counts[http.StatusTooManyRequests] != 100-counts[http.StatusUnauthorized] {
		t.Errorf("100 wrong tokens: %v", counts)
	}
	for token, required := range map[string]auth.Role{secret: auth.Agent, accessTokens.Admin: auth.Admin, accessTokens.Agent: auth.Agent, "wrong": auth.Anyone} {
		if got := status(token, required); got != http.StatusOK {
			t.Errorf("%s from the same address: %d", token, got)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Disabled: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:80", nil, "192.0.2.1"},
		{"192.0.2.1:80", []string{"192.0.2.9"}, "192.0.2.1"}, // not a trusted proxy
		{"10.0.0.1:80", nil, "10.0.0.1"},
		{"10.0.0.1:80", []string{"192.0.2.1"}, "192.0.2.1"},
		{"[::ffff:10.0.0.1]:80", []string{"2001:db8::1"}, "2001:db8::1"},
		{"10.0.0.1:80", []string{"1.1.1.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"}, // the client has written 1.1.1.1
		{"10.0.0.1:80", []string{"1.1.1.1", "192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:80", []string{"192.0.2.1, nonsense"}, "10.0.0.1"},
		{"pipe", []string{"192.0.2.1"}, "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://tasker.example/", nil)
		r.RemoteAddr = tt.remote
		for _, f := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := authorizer.ClientAddress(r).String(); got != tt.want {
			t.Errorf("%s with %q: %s, want %s", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}
