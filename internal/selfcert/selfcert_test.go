package selfcert_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/privatefile"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

func load(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	cert, err := selfcert.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestLoadCreatesCertificateOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	known := selfcert.Fingerprint(load(t, dir))
	if again := selfcert.Fingerprint(load(t, dir)); again != known || len(known) != 43 {
		t.Errorf("fingerprints %q and %q", known, again)
	}
	if other := selfcert.Fingerprint(load(t, t.TempDir())); other == known {
		t.Error("two directories have the same certificate")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestLoadReplacesNothing(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{selfcert.CertFile, selfcert.KeyFile} {
		dir := t.TempDir()
		load(t, dir)
		if err := os.Remove(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if _, err := selfcert.Load(dir); err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
	if _, err := selfcert.Load(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("a certificate was created in a missing directory")
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	cert, other := load(t, t.TempDir()), load(t, t.TempDir())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)

	get := func(trust *tls.Config) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(server.URL) //nolint:noctx // a test
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(selfcert.Trust(selfcert.Fingerprint(cert))); err != nil {
		t.Errorf("the server itself: %v", err)
	}
	for name, known := range map[string]string{
		"another":  selfcert.Fingerprint(other),
		"none":     "",
		"a prefix": selfcert.Fingerprint(cert)[:20],
	} {
		if err := get(selfcert.Trust(known)); !errors.Is(err, selfcert.ErrFingerprint) {
			t.Errorf("%s: %v, want %v", name, err, selfcert.ErrFingerprint)
		}
	}
	// As an authority, the certificate is valid on the same machine.
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	if err := get(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("with the certificate as authority: %v", err)
	}
}

func TestKeyMustBePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := selfcert.Load(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, selfcert.KeyFile)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := selfcert.Load(dir); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+key) {
		t.Errorf("Load = %v", err)
	}
}
