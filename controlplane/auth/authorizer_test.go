package auth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

var accessTokens = auth.AccessTokens{Admin: "the-admins-own-token", Agent: "the-agents-own-token"}

func TestAuthorizeWithTokens(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, authorization string
		required            auth.Role
		status              int
		caller              string
	}{
		{"anyone without a token", "", auth.Anyone, 0, ""},
		{"anyone with a wrong token", "Bearer nonsense", auth.Anyone, 0, ""},
		{"admin", "Bearer " + accessTokens.Admin, auth.Admin, 0, "admin"},
		{"admin calls as an agent", "Bearer " + accessTokens.Admin, auth.Agent, 0, "admin"},
		{"scheme in lower case", "bearer " + accessTokens.Admin, auth.Admin, 0, "admin"},
		{"agent", "Bearer " + accessTokens.Agent, auth.Agent, 0, "agent"},
		{"agent calls as an admin", "Bearer " + accessTokens.Agent, auth.Admin, 403, ""},
		{"no token", "", auth.Admin, 401, ""},
		{"no token for an agent's call", "", auth.Agent, 401, ""},
		{"wrong token", "Bearer " + accessTokens.Admin + "x", auth.Admin, 401, ""},
		{"prefix of the token", "Bearer " + accessTokens.Admin[:8], auth.Admin, 401, ""},
		{"empty token", "Bearer ", auth.Admin, 401, ""},
		{"other scheme", "Basic " + accessTokens.Admin, auth.Admin, 401, ""},
		{"no scheme", accessTokens.Admin, auth.Admin, 401, ""},
	}
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: accessTokens})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://tasker.example/ping", nil)
			if tt.authorization != "" {
				r.Header.Set("Authorization", tt.authorization)
			}
			caller, err := authorizer.Authorize(r, tt.required)
			if tt.status == 0 {
				if err != nil || caller.Name != tt.caller {
					t.Fatalf("Authorize = %+v, %v; want %q", caller, err, tt.caller)
				}
				return
			}
			var denied *auth.DeniedError
			if !errors.As(err, &denied) || denied.Status != tt.status {
				t.Fatalf("Authorize = %v, want status %d", err, tt.status)
			}
			if (denied.Challenge != "") != (tt.status == http.StatusUnauthorized) {
				t.Errorf("challenge is %q", denied.Challenge)
			}
			if strings.Contains(denied.Detail, accessTokens.Admin) || strings.Contains(denied.Detail, accessTokens.Agent) {
				t.Error("the error leaks a token")
			}
		})
	}
}

func TestAuthorizeWithoutTokens(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, host string
		header             map[string]string
		required           auth.Role
		allowed            bool
	}{
		{"curl", "POST", "127.0.0.1:8888", nil, auth.Admin, true},
		{"localhost", "POST", "localhost:8888", nil, auth.Admin, true},
		{"subdomain of localhost", "POST", "tasker.localhost:8888", nil, auth.Admin, true},
		{"IPv6", "POST", "[::1]:8888", nil, auth.Admin, true},
		{"IPv6 without a port", "POST", "[::1]", nil, auth.Admin, true},
		{"the configured name", "POST", "Tasker.Internal:8888", nil, auth.Admin, true},
		{"no host, as in HTTP/1.0", "POST", "", nil, auth.Admin, true},
		{"foreign name (DNS rebinding)", "GET", "evil.example:8888", nil, auth.Admin, false},
		{"foreign name that begins with localhost", "GET", "localhost.evil.example", nil, auth.Admin, false},
		{"foreign name reads the health", "GET", "evil.example", nil, auth.Anyone, true},
		{"another address", "GET", "192.0.2.1", nil, auth.Admin, false},
		{"page of this server", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "same-origin"}, auth.Admin, true},
		{"address typed by the user", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "none"}, auth.Admin, true},
		{"page of another site", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "cross-site"}, auth.Admin, false},
		{"page on another port", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "same-site"}, auth.Admin, false},
		{"old browser, another origin", "POST", "localhost:8888", map[string]string{"Origin": "http://evil.example"}, auth.Admin, false},
		{"old browser, own origin", "POST", "localhost:8888", map[string]string{"Origin": "http://localhost:8888"}, auth.Admin, true},
		{"sandboxed page", "POST", "localhost:8888", map[string]string{"Origin": "null"}, auth.Admin, false},
	}
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Disabled: true, Hosts: []string{"tasker.internal"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, "/ping", nil)
			r.Host = tt.host
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			caller, err := authorizer.Authorize(r, tt.required)
			var denied *auth.DeniedError
			switch {
			case tt.allowed && (err != nil || tt.required == auth.Admin && (caller.Name != "local" || caller.Role != auth.Admin)):
				t.Errorf("Authorize = %+v, %v", caller, err)
			case tt.required == auth.Anyone && caller.Role != auth.Anyone:
				t.Errorf("a request under a foreign name has the caller %+v", caller)
			case !tt.allowed && (!errors.As(err, &denied) || denied.Status != http.StatusForbidden):
				t.Errorf("Authorize = %v, want 403", err)
			}
		})
	}
}

func TestNewAuthorizerRequiresTokens(t *testing.T) {
	t.Parallel()
	for _, o := range []auth.AuthorizerOptions{{}, {Tokens: auth.AccessTokens{Agent: "only-the-agents-token"}}} {
		if _, err := auth.NewAuthorizer(o); err == nil {
			t.Errorf("NewAuthorizer(%+v) admits every caller", o)
		}
	}
}

func TestWithoutAnAgentsTokenNoSharedTokenIsAccepted(t *testing.T) {
	t.Parallel()
	a, err := auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: auth.AccessTokens{Admin: accessTokens.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer " + accessTokens.Agent} {
		r := httptest.NewRequest(http.MethodGet, "/agent/v1/orders", nil)
		r.Header.Set("Authorization", header)
		var denied *auth.DeniedError
		if _, err := a.Authorize(r, auth.Agent); !errors.As(err, &denied) || denied.Status != http.StatusUnauthorized {
			t.Errorf("%q: %v, want 401", header, err)
		}
	}
}
