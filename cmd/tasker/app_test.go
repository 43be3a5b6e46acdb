package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/privatefile"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// TestTokenSource checks that each token is sent only to the control plane that it is for.
func TestTokenSource(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	sent := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Authorization")
		fmt.Fprint(w, `{"endpoints":[]}`)
	}))
	defer server.Close()
	writeFile := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, flag, env, file, local, want string
	}{
		{"none", "", "", "", "", ""},
		{"flag before all", "a", "b", "url: URL\ntoken: c\n", "d", "Bearer a"},
		{"environment before the file", "", "b", "url: URL\ntoken: c\n", "d", "Bearer b"},
		{"token of the file, for its own URL", "", "", "url: URL\ntoken: c\n", "d", "Bearer c"},
		{"not the token of the file, for another URL", "", "", "url: http://tasker.example\ntoken: c\n", "d", "Bearer d"},
		{"local token", "", "", "", "d\n", "Bearer d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeFile(".config/tasker/config.yaml", strings.ReplaceAll(tt.file, "URL", server.URL))
			writeFile(filepath.Join(dataDirs()[0], "admin.token"), tt.local)
			env := map[string]string{"HOME": dir, "TASKER_TOKEN": tt.env}
			a := &app{url: server.URL, token: tt.flag, printer: printer{env: func(name string) (string, bool) {
				v, ok := env[name]
				return v, ok
			}}}
			c, err := a.client()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Endpoints(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := <-sent; got != tt.want {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLocalTokenStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"http://127.0.0.1:8888": true, "http://localhost": true, "http://[::1]:1": true, "https://127.0.0.2": true,
		"http://tasker.example:8888": false, "http://127.0.0.1.evil.example": false, "http://0.0.0.0": false, "http://192.0.2.1": false, "": false,
	} {
		if got := isLocal(address); got != want {
			t.Errorf("isLocal(%q) = %t", address, got)
		}
	}
}

func TestFindLocal(t *testing.T) {
	t.Parallel()
	none, plain, secure := t.TempDir(), t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		filepath.Join(plain, "admin.token"):  "a\n",
		filepath.Join(secure, "admin.token"): "b\n",
		filepath.Join(secure, "api.url"):     "https://127.0.0.1:9999\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := selfcert.Load(secure)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()

	exposed := t.TempDir()
	file := filepath.Join(exposed, "admin.token")
	if err := errors.Join(os.WriteFile(file, []byte("c"), 0o600), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	if got := findLocal([]string{exposed}); got.token != "" || !errors.Is(got.exposed, privatefile.ErrExposed) {
		t.Errorf("a token that others can read: %+v", got)
	}
	if got := findLocal([]string{none}); got != (local{url: defaultURL}) {
		t.Errorf("no data directory: %+v", got)
	}
	if got := findLocal([]string{none, plain, secure}); got != (local{url: defaultURL, token: "a", tokenFile: filepath.Join(plain, "admin.token")}) {
		t.Errorf("without a certificate: %+v", got)
	}
	got := findLocal([]string{secure, plain})
	if got.url != "https://127.0.0.1:9999" || got.token != "b" || got.trust == nil {
		t.Fatalf("with a certificate: %+v", got)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: got.trust}}
	defer c.CloseIdleConnections()
	if resp, err := c.Get(server.URL); err != nil {
		t.Errorf("its certificate is not trusted: %v", err)
	} else {
		_ = resp.Body.Close()
	}
}
