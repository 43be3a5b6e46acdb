package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

func TestEnrolRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		kind    error
		want    []string
	}{
		"a bad token": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 401, "it expired at noon") },
			identity.ErrInvalidToken,
			[]string{"it expired at noon", "tasker enrol-token create"},
		},
		"a name in use": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 409, "since noon") },
			identity.ErrNameTaken,
			[]string{"since noon", "--endpoint", "tasker endpoint revoke web-1"},
		},
		"a bad name": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 422, "endpoint: no") },
			identity.ErrRefused,
			[]string{"endpoint: no"},
		},
		"no management": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 501, "set rabbitmq.apiurl") },
			identity.ErrRefused,
			[]string{"set rabbitmq.apiurl"},
		},
		"no database": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "the database is away") },
			identity.ErrUnavailable,
			[]string{"the database is away", "try again later"},
		},
		"a proxy": {
			func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "bad\x1b[31m gateway", http.StatusBadGateway)
			},
			identity.ErrUnavailable,
			[]string{"bad [31m gateway"},
		},
		"an older control plane": {http.NotFound, identity.ErrRefused, []string{"version"}},
		"another server":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, identity.ErrRefused, []string{"is not a control plane"}},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/enrol", http.StatusMovedPermanently)
		}, identity.ErrRefused, []string{"https://elsewhere.example"}},
		"an echo": {func(w http.ResponseWriter, r *http.Request) {
			var req tasker.EnrolRequest
			_ = json.NewDecoder(r.Body).Decode(&req)
			problem(w, 400, req.Secret+r.Header.Get("Authorization"))
		}, identity.ErrRefused, []string{"Bearer ********"}},
		"no key": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"endpoint":"web-1"}`) },
			identity.ErrRefused,
			[]string{"no key"},
		},
		"a short key": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"endpoint":"web-1","keys":["AAAA"]}`) },
			identity.ErrRefused,
			[]string{"3 bytes"},
		},
		"another name": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"endpoint":"web-2","keys":["%s="]}`, strings.Repeat("A", 43))
		}, identity.ErrRefused, []string{"another endpoint"}},
		"a queue with a user": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"endpoint":"web-1","server":"amqp://u:p@h/v","keys":["%s="]}`, strings.Repeat("A", 43))
		}, identity.ErrRefused, []string{"without user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.handler)
			t.Cleanup(server.Close)
			dir := t.TempDir()
			_, err := identity.Enrol(t.Context(), dir, identity.Request{Server: server.URL, Token: token, Endpoint: "web-1"})
			if !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}
			for _, part := range append(tt.want, server.URL) {
				if !strings.Contains(err.Error(), part) && (part != server.URL || name != "a redirection") {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("the token is in: %v", err)
			}
			if _, err := identity.Load(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is an identity: %v", err)
			}
		})
	}
}

func TestEnrolUnreachable(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := newPlane(t)
	const unused = "http://127.0.0.1:1" // No program listens on this port.
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	for name, tt := range map[string]struct {
		r    identity.Request
		want string
	}{
		"nothing listens":        {identity.Request{Server: unused}, "is it running"},
		"an unknown certificate": {identity.Request{Server: secure.URL}, "--ca-file"},
		"an incomplete token":    {identity.Request{Server: secure.URL}, "complete"},
		"another name":           {identity.Request{Server: secure.URL, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "elsewhere"}}, "that its certificate contains"},
		"no https":               {identity.Request{Server: strings.Replace(plain.URL, "http", "https", 1)}, "write http://"},
		"https":                  {identity.Request{Server: strings.Replace(secure.URL, "https", "http", 1)}, "write https://"},
		"a token for https":      {identity.Request{Server: plain.URL, Fingerprint: "x"}, "use https://"},
		"no URL":                 {identity.Request{Server: "127.0.0.1:8888"}, "https://HOST:PORT"},
		"a user in the URL":      {identity.Request{Server: "http://u:hunter2@cp"}, "without user"},
		"no token":               {identity.Request{Server: plain.URL, Token: "a b"}, "tasker enrol-token create"},
		"another token":          {identity.Request{Server: plain.URL, Token: "hunter2"}, "begins with tasker-enrol-"},
		"no name":                {identity.Request{Server: plain.URL, Endpoint: "Web"}, `"Web"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.r.Token == "" {
				tt.r.Token = token
			}
			if tt.r.Endpoint == "" {
				tt.r.Endpoint = "web-1"
			}
			_, err := identity.Enrol(t.Context(), t.TempDir(), tt.r)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}
