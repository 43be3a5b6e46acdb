package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// TestMain makes the certificate of httptest's servers trusted.
func TestMain(m *testing.M) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	file := filepath.Join(os.TempDir(), fmt.Sprintf("tasker-fetch-%d.pem", os.Getpid()))
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(file, certificate, 0o600), os.Setenv("SSL_CERT_FILE", file)); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.Remove(file)
		os.Exit(code)
	}))
}

const token = "Bearer hunter2"

// mirror is a server of a file that can misbehave.
type mirror struct {
	*httptest.Server
	t       *testing.T
	content []byte
	// serve handles request number n, from 1. If it is nil or returns false, the mirror
	// serves the file.
	serve func(n int, w http.ResponseWriter, r *http.Request) bool
	etag  string

	mu       sync.Mutex
	requests []*http.Request
}

func newMirror(t *testing.T, serve func(int, http.ResponseWriter, *http.Request) bool) *mirror {
	t.Helper()
	m := &mirror{t: t, content: content(1), serve: serve, etag: `"one"`}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func content(seed byte) []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.requests = append(m.requests, r)
	n := len(m.requests)
	m.mu.Unlock()
	if m.serve != nil && m.serve(n, w, r) {
		return
	}
	w.Header().Set("ETag", m.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.content))
}

// sendHalf sends the first half of the file and then aborts the connection.
func (m *mirror) sendHalf(w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("ETag", m.etag)
	w.Header().Set("Content-Length", fmt.Sprint(len(m.content)))
	_, _ = w.Write(m.content[:len(m.content)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// ranges returns the Range headers of all requests.
func (m *mirror) ranges() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, r := range m.requests {
		all = append(all, cmp.Or(r.Header.Get("Range"), "all"))
	}
	return strings.Join(all, " ")
}

// download is a fetcher and a request with its own directory.
type download struct {
	fetch.Fetcher
	fetch.Request
	dir string
	log *bytes.Buffer
}

func newDownload(t *testing.T, from string, want []byte) *download {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	sum := sha256.Sum256(want)
	var log bytes.Buffer
	sources, err := fetch.NewSources([]string{"http://*", "https://*", "file:///"})
	if err != nil {
		t.Fatal(err)
	}
	return &download{
		Fetcher: fetch.Fetcher{Sources: sources, IdleTimeout: time.Minute, GiveUpAfter: time.Minute, Retry: backoff.Policy{First: time.Millisecond, Cap: 10 * time.Millisecond}},
		Request: fetch.Request{
			URL: u, SHA256: hex.EncodeToString(sum[:]), MaxSize: 1 << 30, Dir: root, Name: "part", Authorization: token,
			CheckSpace: func(int64) error { return nil }, Progress: func(int64, int64) {}, Log: &log,
		},
		dir: dir, log: &log,
	}
}

func (d *download) get(ctx context.Context) ([]byte, error) {
	file, err := d.Get(ctx, d.Request)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

func (d *download) wantContent(t *testing.T, want []byte) {
	t.Helper()
	got, err := d.get(t.Context())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v\n%s", len(got), err, d.log)
	}
}

func (d *download) wantError(t *testing.T, want string) {
	t.Helper()
	_, err := d.get(t.Context())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err != nil && strings.Contains(err.Error()+d.log.String(), "hunter2") {
		t.Errorf("a secret is in %v or in %s", err, d.log)
	}
}
