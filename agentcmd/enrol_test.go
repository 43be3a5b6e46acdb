package agentcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const goodToken = "tasker-enrol-good"

// patience bounds every wait of a test.
const patience = 2 * time.Minute

// plane enrols whoever has the token, and lets nobody connect.
type plane struct {
	mu      sync.Mutex
	secrets map[string]string
	callers []string
}

func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path != "/enrol" {
		p.callers = append(p.callers, by)
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	var req tasker.EnrolRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || by != goodToken {
		http.Error(w, `{"title":"Unauthorized","detail":"the token is not known"}`, http.StatusUnauthorized)
		return
	}
	if p.secrets == nil {
		p.secrets = map[string]string{}
	}
	p.secrets[req.Endpoint] = req.Secret
	_ = json.NewEncoder(w).Encode(tasker.Enrolment{Endpoint: req.Endpoint, Keys: [][]byte{make([]byte, 32)}})
}

// called says whether somebody has come who is enrolled, or takes himself for it.
func (p *plane) called() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.callers) > 0
}

// first is as whom the first of them came, and the secret of an endpoint.
func (p *plane) first(endpoint string) (caller, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.callers[0], p.secrets[endpoint]
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// configure writes a configuration, with a data directory beside it.
func configure(t *testing.T, more string) config.Source {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write(t, file, "data_dir: "+dir+"/data\nmetrics: {port: 0}\n"+more)
	return config.Source{File: file}
}

// command runs the program's command line.
func command(t *testing.T, args ...string) (string, error) {
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

func TestEnrolAndCheckConfig(t *testing.T) {
	t.Parallel()
	p := &plane{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	src := configure(t, "")
	if _, err := command(t, "check-config", "--config", src.File); err == nil || !strings.Contains(err.Error(), "tasker-agent enrol") {
		t.Errorf("before: %v", err)
	}
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, goodToken+"\n")
	out, err := command(t, "enrol", "--config", src.File, "--server", server.URL, "--token-file", file, "--endpoint", "web-1")
	if err != nil || !strings.Contains(out, "endpoint web-1") || !strings.Contains(out, "tasker-agent run --config "+src.File) {
		t.Errorf("enrol: %v\n%s", err, out)
	}
	if strings.Contains(out, "not encrypted") {
		t.Errorf("a warning of what stays on this machine:\n%s", out)
	}
	out, err = command(t, "check-config", "--config", src.File)
	if err != nil || !strings.Contains(out, "enrolled as web-1") {
		t.Errorf("after: %v\n%s", err, out)
	}
	if out, err = command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken); err != nil || !strings.Contains(out, "endpoint web-1") {
		t.Errorf("again, with the name of before: %v\n%s", err, out)
	}
	_, err = command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken, "--endpoint", "web-2")
	if !errors.Is(err, identity.ErrEnrolled) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another name: %v", err)
	}
	if out, err = command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken, "--endpoint", "web-2", "--force"); err != nil {
		t.Errorf("by force: %v\n%s", err, out)
	}
	write(t, src.File, "data_dir: "+filepath.Dir(src.File)+"/data\nendpoint: web-1\n")
	if _, err = command(t, "check-config", "--config", src.File); err == nil || !strings.Contains(err.Error(), src.File+":2:11: endpoint: is \"web-1\"") {
		t.Errorf("a configuration with another name: %v", err)
	}
	if _, err = command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken, "--endpoint", "web-3", "--force"); err == nil || !strings.Contains(err.Error(), src.File+":2:11: endpoint") {
		t.Errorf("enrolled as what the configuration would contradict: %v", err)
	}
}

func TestEnrolNeedsAToken(t *testing.T) {
	src := configure(t, "")
	server := httptest.NewServer(&plane{})
	t.Cleanup(server.Close)
	t.Setenv(tokenVariable, "")
	if _, err := command(t, "enrol", "--config", src.File, "--server", server.URL); err == nil || !strings.Contains(err.Error(), tokenVariable) {
		t.Errorf("got %v", err)
	}
	t.Setenv(tokenVariable, goodToken)
	if out, err := command(t, "enrol", "--config", src.File, "--server", server.URL, "--endpoint", "web-1"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A control plane that has made its own certificate is known by the token.
func TestEnrolByFingerprint(t *testing.T) {
	t.Parallel()
	p := &plane{}
	server := httptest.NewTLSServer(p)
	t.Cleanup(server.Close)
	known := selfcert.Fingerprint(server.TLS.Certificates[0])
	src := configure(t, "")
	_, err := command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken+"."+strings.Repeat("A", 43), "--endpoint", "web-1")
	if !errors.Is(err, identity.ErrUnreachable) || !strings.Contains(err.Error(), "another control plane") {
		t.Errorf("the token of another control plane: %v", err)
	}
	if out, err := command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken+"."+known, "--endpoint", "web-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, s, p.called)
	if caller, secret := p.first("web-1"); caller != secret {
		t.Errorf("it connects as %q", caller)
	}
}

// runs runs the agent until the condition holds.
func runs(t *testing.T, s *setup, holds func() bool) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var said lockedBuffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, s, "1.2.3", slog.New(slog.NewTextHandler(&said, nil)), nil) }()
	until(t, holds, func() string { return said.String() })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	return said.String()
}

func until(t *testing.T, holds func() bool, state func() string) {
	t.Helper()
	for limit := time.After(patience); !holds(); {
		select {
		case <-limit:
			t.Fatalf("waited in vain:\n%s", state())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// told collects what the service manager is told.
func told(t *testing.T) *lockedBuffer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	var all lockedBuffer
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

// With a token beside its configuration an agent enrols when it starts, however
// long that takes, and the token is gone afterwards.
func TestEnrolAtTheFirstStart(t *testing.T) {
	manager := told(t)
	p := &plane{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	src := configure(t, "")
	request := filepath.Join(filepath.Dir(src.File), requestFile)
	write(t, request, "server: "+server.URL+"\ntoken: tasker-enrol-wrong\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.says(), request) {
		t.Errorf("check-config says %q", s.says())
	}
	put := false
	said := runs(t, s, func() bool {
		if !put && strings.Contains(manager.String(), "READY=1\nWATCHDOG=1\nSTATUS=waiting for the enrolment at "+server.URL) {
			put = true
			write(t, request, "server: "+server.URL+"\ntoken: "+goodToken+"\nendpoint: web-7\n")
		}
		return p.called()
	})
	caller, secret := p.first("web-7")
	if caller != secret || secret == "" {
		t.Errorf("it connects as %q", caller)
	}
	if _, err := os.Stat(request); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file with the token: %v", err)
	}
	if !strings.Contains(said, "the token is not known") || strings.Contains(said, goodToken) || strings.Contains(said, secret) {
		t.Errorf("it logs\n%s", said)
	}
}

// An agent that has an identity does not wait for another enrolment.
func TestARequestThatCannotBeMetDoesNotStopAnEnrolledAgent(t *testing.T) {
	t.Parallel()
	p := &plane{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	src := configure(t, "")
	if out, err := command(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken, "--endpoint", "web-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	request := filepath.Join(filepath.Dir(src.File), requestFile)
	write(t, request, "server: "+server.URL+"\ntoken: "+goodToken+"\nendpoint: web-2\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	said := runs(t, s, p.called)
	if !strings.Contains(said, "going on as before") || !strings.Contains(said, "--force") {
		t.Errorf("it logs\n%s", said)
	}
	if _, err := os.Stat(request); err != nil {
		t.Error(err)
	}
}

// An agent that stops while it is not enrolled stops in order.
func TestStopWhileEnrolling(t *testing.T) {
	manager := told(t)
	server := httptest.NewServer(&plane{})
	t.Cleanup(server.Close)
	src := configure(t, "")
	write(t, filepath.Join(filepath.Dir(src.File), requestFile), "server: "+server.URL+"\ntoken: wrong\nendpoint: web-1\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, s, func() bool { return strings.Contains(manager.String(), "waiting for the enrolment") })
}

func TestWhoIsShutOutIsToldHowToEnrol(t *testing.T) {
	manager := told(t)
	var said lockedBuffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	o := observe(log, agent.NewMetrics(prometheus.NewRegistry()), sysservice.NewNotifier(log))
	for range 2 {
		o(fmt.Errorf("wrapped: %w: revoked at noon", transport.ErrUnauthorized))
	}
	o(errors.New("connection refused"))
	o(nil)
	until(t, func() bool { return strings.Contains(manager.String(), "STATUS=connected") }, manager.String)
	if n := strings.Count(said.String(), "shut out by the control plane"); n != 1 || !strings.Contains(said.String(), enrolAgain) {
		t.Errorf("it logs\n%s", said.String())
	}
	for _, status := range []string{"STATUS=shut out by the control plane; " + enrolAgain, "revoked at noon", "STATUS=not connected; trying again: connection refused"} {
		if !strings.Contains(manager.String(), status) {
			t.Errorf("%q is not in what systemd was told:\n%s", status, manager)
		}
	}
}

func TestWarnOfPlainHTTP(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]bool{
		"http://cp:8888": true, "http://192.0.2.1": true, "https://cp:8888": false,
		"http://127.0.0.1:8888": false, "http://[::1]:8888": false, "http://localhost": false,
	} {
		var b bytes.Buffer
		if warnOfPlainHTTP(&b, "tasker-agent", server); (b.Len() > 0) != want {
			t.Errorf("%s: %q", server, &b)
		}
	}
}
