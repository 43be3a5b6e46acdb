package access_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/api/access"
)

var tokens = access.Tokens{Admin: "the-admins-own-token", Agent: "the-agents-own-token"}

func TestCheckWithTokens(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, authorization string
		need                access.Role
		status              int
		who                 string
	}{
		{"anyone may, without", "", access.Anyone, 0, ""},
		{"anyone may, with a wrong one", "Bearer nonsense", access.Anyone, 0, ""},
		{"admin", "Bearer " + tokens.Admin, access.Admin, 0, "admin"},
		{"admin may what an agent may", "Bearer " + tokens.Admin, access.Agent, 0, "admin"},
		{"scheme in lower case", "bearer " + tokens.Admin, access.Admin, 0, "admin"},
		{"agent", "Bearer " + tokens.Agent, access.Agent, 0, "agent"},
		{"agent is no admin", "Bearer " + tokens.Agent, access.Admin, 403, ""},
		{"none", "", access.Admin, 401, ""},
		{"none, for an agent's call", "", access.Agent, 401, ""},
		{"wrong", "Bearer " + tokens.Admin + "x", access.Admin, 401, ""},
		{"a part of it", "Bearer " + tokens.Admin[:8], access.Admin, 401, ""},
		{"empty", "Bearer ", access.Admin, 401, ""},
		{"another scheme", "Basic " + tokens.Admin, access.Admin, 401, ""},
		{"no scheme", tokens.Admin, access.Admin, 401, ""},
	}
	guard, err := access.NewGuard(access.Options{Tokens: tokens})
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
			who, err := guard.Check(r, tt.need)
			if tt.status == 0 {
				if err != nil || who.Name != tt.who {
					t.Fatalf("Check = %+v, %v; want %q", who, err, tt.who)
				}
				return
			}
			var denied *access.Denied
			if !errors.As(err, &denied) || denied.Status != tt.status {
				t.Fatalf("Check = %v, want status %d", err, tt.status)
			}
			if (denied.Challenge != "") != (tt.status == http.StatusUnauthorized) {
				t.Errorf("challenge is %q", denied.Challenge)
			}
			if strings.Contains(denied.Detail, tokens.Admin) || strings.Contains(denied.Detail, tokens.Agent) {
				t.Error("the refusal gives a token away")
			}
		})
	}
}

func TestCheckOfBrowsers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, host string
		header             map[string]string
		need               access.Role
		allowed            bool
	}{
		{"curl", "POST", "127.0.0.1:8888", nil, access.Admin, true},
		{"localhost", "POST", "localhost:8888", nil, access.Admin, true},
		{"a name under localhost", "POST", "tasker.localhost:8888", nil, access.Admin, true},
		{"IPv6", "POST", "[::1]:8888", nil, access.Admin, true},
		{"IPv6 without a port", "POST", "[::1]", nil, access.Admin, true},
		{"the configured name", "POST", "Tasker.Internal:8888", nil, access.Admin, true},
		{"no host at all, as in HTTP/1.0", "POST", "", nil, access.Admin, true},
		{"a foreign name (DNS rebinding)", "GET", "evil.example:8888", nil, access.Admin, false},
		{"a foreign name that begins like ours", "GET", "localhost.evil.example", nil, access.Admin, false},
		{"a foreign name asks whether it lives", "GET", "evil.example", nil, access.Anyone, true},
		{"another address", "GET", "192.0.2.1", nil, access.Admin, false},
		{"our own page", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "same-origin"}, access.Admin, true},
		{"typed by the user", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "none"}, access.Admin, true},
		{"page of another site", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "cross-site"}, access.Admin, false},
		{"page on another port", "POST", "localhost:8888", map[string]string{"Sec-Fetch-Site": "same-site"}, access.Admin, false},
		{"old browser, another origin", "POST", "localhost:8888", map[string]string{"Origin": "http://evil.example"}, access.Admin, false},
		{"old browser, our origin", "POST", "localhost:8888", map[string]string{"Origin": "http://localhost:8888"}, access.Admin, true},
		{"sandboxed page", "POST", "localhost:8888", map[string]string{"Origin": "null"}, access.Admin, false},
	}
	guard, err := access.NewGuard(access.Options{Off: true, Hosts: []string{"tasker.internal"}})
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
			who, err := guard.Check(r, tt.need)
			var denied *access.Denied
			switch {
			case tt.allowed && (err != nil || tt.need == access.Admin && (who.Name != "local" || who.Role != access.Admin)):
				t.Errorf("Check = %+v, %v", who, err)
			case tt.need == access.Anyone && who.Role != access.Anyone:
				t.Errorf("a foreign name made the caller %+v", who)
			case !tt.allowed && (!errors.As(err, &denied) || denied.Status != http.StatusForbidden):
				t.Errorf("Check = %v, want 403", err)
			}
		})
	}
}

func TestNewGuardNeedsTokens(t *testing.T) {
	t.Parallel()
	for _, o := range []access.Options{{}, {Tokens: access.Tokens{Admin: "only-the-admins-token"}}} {
		if _, err := access.NewGuard(o); err == nil {
			t.Errorf("NewGuard(%+v) lets anyone in", o)
		}
	}
}

func TestLoadTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	all := make([]access.Tokens, 8)
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = access.LoadTokens(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, got := range all {
		if got != all[0] || got.Admin == "" || got.Admin == got.Agent {
			t.Fatalf("LoadTokens = %+v and %+v", got, all[0])
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files are left, %v", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestLoadTokensRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, admin, agent, says string }{
		{"empty", "", "the-agents-own-token", "admin.token"},
		{"short", "the-admins-own-token", "short", "agent.token"},
		{"two lines", "the-admins-own\ntoken-of-two-lines", "the-agents-own-token", "admin.token"},
		{"the same", "one-and-the-same-token", "one-and-the-same-token\n", "same token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, access.AdminTokenFile), tt.admin)
			write(t, filepath.Join(dir, access.AgentTokenFile), tt.agent)
			if _, err := access.LoadTokens(dir); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("LoadTokens = %v, want it to name %q", err, tt.says)
			}
		})
	}
	if _, err := access.LoadTokens(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("LoadTokens in a missing directory gives no error")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
