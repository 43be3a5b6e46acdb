package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

func TestEnrolStoresTheIdentity(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := filepath.Join(t.TempDir(), "new")
	r := p.request("web-1")
	r.Token += ".fingerprint" // It is not sent to the control plane.
	r.Server += "/"
	got, err := identity.Enrol(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Endpoint != "web-1" || got.ControlPlane != p.URL || got.Server != p.URL || got.URI() != p.URL || len(got.Keys) != 1 || got.Secret.Reveal() != p.secrets["web-1"] {
		t.Errorf("the identity is %+v", got)
	}
	loaded, err := identity.Load(dir)
	if err != nil || loaded.Secret != got.Secret {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	wantFiles(t, dir, "identity.json")
	if info, err := os.Stat(identity.File(dir)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := tasker.ValidateSecret(got.Secret.Reveal()); err != nil {
		t.Error(err)
	}
}

func TestURIOfMessageQueue(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.queue = "amqps://mq.example.net:5671/tas%2Fker"
	i, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "amqps://web-1:" + i.Secret.Reveal() + "@mq.example.net:5671/tas%2Fker"; i.URI() != want {
		t.Errorf("connects to %s, want %s", i.URI(), want)
	}
}

// A request whose response was lost is repeated with the same secret.
func TestEnrolCanBeRepeated(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.lose = 1
	dir := t.TempDir()
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); !errors.Is(err, identity.ErrUnreachable) {
		t.Fatalf("a lost response: %v", err)
	}
	if _, err := identity.Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an incomplete enrolment is loaded: %v", err)
	}
	wantFiles(t, dir, "enrolling.json")
	for range 2 {
		if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, dir, "identity.json")
	}
	if len(p.requests) != 3 || p.requests[0] != p.requests[1] || p.requests[1] != p.requests[2] {
		t.Errorf("requested %v", p.requests)
	}
}

func TestEnrolAfterRevoke(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := t.TempDir()
	first, err := identity.Enrol(t.Context(), dir, p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	p.revoke("web-1")
	second, err := identity.Enrol(t.Context(), dir, p.request("web-1"))
	if err != nil || second.Secret == first.Secret {
		t.Errorf("%v; the same secret again: %t", err, err == nil && second.Secret == first.Secret)
	}
	// Another server gets the name: the identity does not change.
	p.revoke("web-1")
	if _, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1")); err != nil {
		t.Fatal(err)
	}
	_, err = identity.Enrol(t.Context(), dir, p.request("web-1"))
	if !errors.Is(err, identity.ErrNameTaken) || !strings.Contains(err.Error(), "tasker endpoint revoke web-1") {
		t.Errorf("another server's name: %v", err)
	}
	if stored, err := identity.Load(dir); err != nil || stored.Secret != second.Secret {
		t.Errorf("%v", err)
	}
	wantFiles(t, dir, "identity.json")
}

func TestEnrolReplacesOnlyOnRequest(t *testing.T) {
	t.Parallel()
	p, elsewhere := newPlane(t), newPlane(t)
	dir := t.TempDir()
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []identity.Request{p.request("web-2"), elsewhere.request("web-1")} {
		_, err := identity.Enrol(t.Context(), dir, r)
		if !errors.Is(err, identity.ErrAlreadyEnrolled) || !strings.Contains(err.Error(), "web-1") || !strings.Contains(err.Error(), identity.File(dir)) {
			t.Errorf("got %v", err)
		}
		r.Replace = true
		if i, err := identity.Enrol(t.Context(), dir, r); err != nil || i.Endpoint != r.Endpoint || i.ControlPlane != r.Server {
			t.Errorf("replaced: %+v, %v", i, err)
		}
		p.revoke("web-1")
		r = p.request("web-1")
		r.Replace = true
		if _, err := identity.Enrol(t.Context(), dir, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(identity.File(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-9")); err == nil || !strings.Contains(err.Error(), identity.File(dir)) {
		t.Errorf("over a damaged file: %v", err)
	}
}

func TestEnrolStoresCertificates(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	secure := httptest.NewTLSServer(p)
	t.Cleanup(secure.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	r := identity.Request{
		Server: secure.URL, Token: token, Endpoint: "web-1", TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		CA:          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})),
		Fingerprint: identity.Fingerprint(token + ".abc"),
	}
	i, err := identity.Enrol(t.Context(), t.TempDir(), r)
	if err != nil || i.CA != r.CA || i.Fingerprint != "abc" {
		t.Errorf("%+v, %v", i, err)
	}
}
