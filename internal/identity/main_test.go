package identity_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

const token = "tasker-enrol-VerySecretIndeed"

// plane is a server that enrols like a control plane.
type plane struct {
	*httptest.Server
	// queue is the server to which it makes agents connect.
	queue string

	mu       sync.Mutex
	secrets  map[string]string
	revoked  map[string]bool
	requests []tasker.EnrolRequest
	// lose is the number of responses that are lost after the enrolment.
	lose int
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{secrets: map[string]string{}, revoked: map[string]bool{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var req tasker.EnrolRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != "/enrol" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	p.requests = append(p.requests, req)
	status := http.StatusCreated
	switch secret, ok := p.secrets[req.Endpoint]; {
	case r.Header.Get("Authorization") != "Bearer "+token:
		problem(w, http.StatusUnauthorized, "it is unknown")
		return
	case p.revoked[req.Secret]:
		problem(w, http.StatusConflict, "the secret was revoked")
		return
	case ok && secret == req.Secret:
		status = http.StatusOK
	case ok:
		problem(w, http.StatusConflict, "the name is in use since yesterday")
		return
	}
	p.secrets[req.Endpoint] = req.Secret
	if p.lose > 0 {
		p.lose--
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(tasker.Enrolment{Endpoint: req.Endpoint, Server: p.queue, Keys: [][]byte{make([]byte, 32)}})
}

func (p *plane) revoke(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked[p.secrets[endpoint]] = true
	delete(p.secrets, endpoint)
}

func (p *plane) request(endpoint string) identity.Request {
	return identity.Request{Server: p.URL, Token: token, Endpoint: endpoint}
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "title": "No", "detail": detail})
}

// wantFiles checks the names in a directory.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the directory contains %v, want %v", got, want)
	}
}
