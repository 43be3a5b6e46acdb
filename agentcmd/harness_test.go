package agentcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
)

const goodToken = "tasker-enrol-good"

// testTimeout bounds every wait of a test.
const testTimeout = 2 * time.Minute

// fakeControlPlane enrols every agent that has goodToken, and refuses every connection.
type fakeControlPlane struct {
	mu sync.Mutex
	// secrets are the secrets of the enrolled endpoints, by name.
	secrets map[string]string
	// bearers are the bearer tokens of the connections.
	bearers []string
}

func newFakeControlPlane(t *testing.T) (p *fakeControlPlane, url string) {
	t.Helper()
	p = &fakeControlPlane{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

func (p *fakeControlPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path != "/enrol" {
		p.bearers = append(p.bearers, bearer)
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	var req tasker.EnrolRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || bearer != goodToken {
		http.Error(w, `{"title":"Unauthorized","detail":"the token is not known"}`, http.StatusUnauthorized)
		return
	}
	if p.secrets == nil {
		p.secrets = map[string]string{}
	}
	p.secrets[req.Endpoint] = req.Secret
	_ = json.NewEncoder(w).Encode(tasker.Enrolment{Endpoint: req.Endpoint, Keys: [][]byte{make([]byte, 32)}})
}

// called reports whether an agent has tried to connect.
func (p *fakeControlPlane) called() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.bearers) > 0
}

// checkConnection checks that the first connection used the secret of the endpoint.
func (p *fakeControlPlane) checkConnection(t *testing.T, endpoint string) (secret string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if secret = p.secrets[endpoint]; secret == "" || p.bearers[0] != secret {
		t.Errorf("the agent connects with %q, want the secret %q of %s", p.bearers[0], secret, endpoint)
	}
	return secret
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// configure writes a configuration with the data directory beside it.
func configure(t *testing.T) config.Source {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write(t, file, "data_dir: "+dir+"/data\nmetrics: {port: 0}\n")
	return config.Source{File: file}
}

// execute runs a command line of the program, and returns its output.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot("1.2.3", nil)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	root.SilenceErrors, root.SilenceUsage = true, true
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// runUntil runs the agent until a condition holds, and returns its log.
func runUntil(t *testing.T, s *setup, condition func() bool) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var logged syncbuffer.Buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, s, "1.2.3", slog.New(slog.NewTextHandler(&logged, nil)), nil) }()
	waitFor(t, condition, logged.String)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	return logged.String()
}

func waitFor(t *testing.T, condition func() bool, state func() string) {
	t.Helper()
	for limit := time.After(testTimeout); !condition(); {
		select {
		case <-limit:
			t.Fatalf("timeout; state:\n%s", state())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// fakeServiceManager collects the notifications to the service manager.
func fakeServiceManager(t *testing.T) *syncbuffer.Buffer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	var all syncbuffer.Buffer
	go func() {
		buf := make([]byte, 8192)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = all.Write(append(buf[:n:n], '\n'))
		}
	}()
	return &all
}
