package certfile_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/internal/certfile"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a self-signed certificate with its key, in PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, serial int64, expires time.Time, names ...string) pair {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: expires.Add(-365 * 24 * time.Hour), NotAfter: expires,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// files are the files of a certificate, and the log of their Certificate.
type files struct {
	cert, key string
	log       *syncbuffer.Buffer
}

func newFiles(t *testing.T, p pair) files {
	t.Helper()
	dir := t.TempDir()
	f := files{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), log: &syncbuffer.Buffer{}}
	f.write(t, p)
	return f
}

func (f files) write(t *testing.T, p pair) {
	t.Helper()
	must(t, errors.Join(os.WriteFile(f.cert, p.cert, 0o600), os.WriteFile(f.key, p.key, 0o600)))
}

func (f files) open(t *testing.T, configure ...func(*certfile.Options)) *certfile.Certificate {
	t.Helper()
	o := certfile.Options{Cert: f.cert, Key: f.key, Log: slog.New(slog.NewTextHandler(f.log, nil))}
	for _, c := range configure {
		c(&o)
	}
	c, err := certfile.Open(o)
	must(t, err)
	return c
}

func serial(t *testing.T, c *certfile.Certificate) int64 {
	t.Helper()
	cert, err := c.Get(nil)
	must(t, err)
	return cert.Leaf.SerialNumber.Int64()
}

func TestReload(t *testing.T) {
	t.Parallel()
	year := time.Now().Add(365 * 24 * time.Hour)
	f := newFiles(t, newPair(t, 1, year))
	c := f.open(t)
	next := newPair(t, 2, year.Add(time.Hour))
	f.write(t, next)
	if c.Reload(); serial(t, c) != 2 || !c.Expiry().Equal(year.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("serial %d, expiry %s", serial(t, c), c.Expiry())
	}
	for name, broken := range map[string]func(){
		"no_PEM":             func() { must(t, os.WriteFile(f.cert, []byte("x"), 0o600)) },
		"the_key_of_another": func() { f.write(t, pair{next.cert, newPair(t, 3, year).key}) },
		"no_file":            func() { must(t, os.Remove(f.cert)) },
		"a_readable_key":     func() { f.write(t, newPair(t, 4, year)); must(t, os.Chmod(f.key, 0o644)) },
		"an_expired_one":     func() { f.write(t, newPair(t, 5, time.Now().Add(-time.Hour))) },
	} {
		before := f.log.String()
		broken()
		c.Reload()
		c.Reload()
		added := strings.TrimPrefix(f.log.String(), before)
		if serial(t, c) != 2 || strings.Count(added, "the old one stays") != 1 {
			t.Errorf("%s: serial %d, logged %q", name, serial(t, c), added)
		}
		must(t, os.Chmod(f.key, 0o600))
		f.write(t, next)
		c.Reload()
	}
	f.write(t, newPair(t, 6, year))
	if c.Reload(); serial(t, c) != 6 {
		t.Errorf("serial %d after a valid one", serial(t, c))
	}
}

func TestRunNoticesReplacedFiles(t *testing.T) {
	t.Parallel()
	year := time.Now().Add(365 * 24 * time.Hour)
	f := newFiles(t, newPair(t, 1, year))
	c := f.open(t, func(o *certfile.Options) { o.Interval = time.Millisecond })
	defer run(c)()
	f.write(t, newPair(t, 2, year))
	wait.For(t, "the new certificate", func() bool { return serial(t, c) == 2 })
}

// run calls Run until stop is called.
func run(c *certfile.Certificate) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func TestExpiryIsWarnedOfOnceADay(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(365 * 24 * time.Hour).Truncate(time.Second)
	f := newFiles(t, newPair(t, 1, expires))
	var mu sync.Mutex
	now := expires.Add(-certfile.WarnBefore)
	c := f.open(t, func(o *certfile.Options) {
		o.Interval = time.Millisecond
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	advance := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	warnings := func() int { return strings.Count(f.log.String(), "replace the certificate") }
	defer run(c)()
	// A replaced file shows that a round has passed.
	f.write(t, newPair(t, 2, expires))
	wait.For(t, "a round", func() bool { return serial(t, c) == 2 })
	if warnings() != 0 {
		t.Errorf("warned 30 days ahead:\n%s", f.log)
	}
	advance(time.Second)
	wait.For(t, "the first warning", func() bool { return warnings() == 1 })
	if !strings.Contains(f.log.String(), "expires in 29 days, at "+expires.UTC().Format(time.RFC3339)) {
		t.Errorf("log:\n%s", f.log)
	}
	advance(24*time.Hour - time.Second)
	advance(time.Second)
	wait.For(t, "the second warning", func() bool { return warnings() == 2 })
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	f := newFiles(t, newPair(t, 1, time.Now().Add(time.Hour)))
	must(t, os.Chmod(f.key, 0o644))
	if _, err := certfile.Open(certfile.Options{Cert: f.cert, Key: f.key}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+f.key) {
		t.Errorf("a readable key: %v", err)
	}
}

func TestTrustAuthorities(t *testing.T) {
	t.Parallel()
	year := time.Now().Add(365 * 24 * time.Hour)
	first, second := newPair(t, 1, year, "cp.example"), newPair(t, 2, year, "cp.example")
	f := newFiles(t, first)
	c := f.open(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	server.Listener = tls.NewListener(server.Listener, &tls.Config{GetCertificate: c.Get})
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, first.cert, 0o600))
	get := func(host, extra string) error {
		conf, err := certfile.TrustAuthorities(ca, extra, host)
		must(t, err)
		return connect(t, server.Listener.Addr().String(), conf)
	}
	for _, host := range []string{"127.0.0.1", "cp.example"} {
		if err := get(host, ""); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	var wrongName x509.HostnameError
	if err := get("other.example", ""); !errors.As(err, &wrongName) {
		t.Errorf("another name: %v", err)
	}

	conf, err := certfile.TrustAuthorities(ca, "", "127.0.0.1")
	must(t, err)
	f.write(t, second)
	c.Reload()
	var unknown x509.UnknownAuthorityError
	if err := connect(t, server.Listener.Addr().String(), conf); !errors.As(err, &unknown) {
		t.Errorf("before the file is replaced: %v", err)
	}
	if err := get("127.0.0.1", string(second.cert)); err != nil {
		t.Errorf("with a further authority: %v", err)
	}
	must(t, os.WriteFile(ca, second.cert, 0o600))
	if err := connect(t, server.Listener.Addr().String(), conf); err != nil {
		t.Errorf("after the file was replaced: %v", err)
	}
	must(t, os.WriteFile(ca, []byte("x"), 0o600))
	if err := connect(t, server.Listener.Addr().String(), conf); err == nil || !strings.Contains(err.Error(), ca) {
		t.Errorf("with a broken file: %v", err)
	}
	if _, err := certfile.TrustAuthorities(ca, "", "127.0.0.1"); err == nil {
		t.Error("a broken file is accepted")
	}
}

// connect sends one request over a new connection.
func connect(t *testing.T, address string, conf *tls.Config) error {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + address)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
