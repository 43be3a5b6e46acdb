// Package certfile serves with a TLS certificate whose files may be replaced, and verifies
// servers with a file of authorities that may be replaced. Programs that run for months
// use it, so that a renewed certificate needs no restart.
package certfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// The default of Options.Interval, and how long before its expiry a certificate is warned
// of.
const (
	DefaultInterval = 30 * time.Second
	WarnBefore      = 30 * 24 * time.Hour

	// warnInterval is the pause between two warnings in the log.
	warnInterval = 24 * time.Hour
)

// Options configure Open.
type Options struct {
	// Cert and Key are the PEM files. Other users must not be able to read Key.
	Cert, Key string
	// Interval is how often Run reads the files; zero is DefaultInterval.
	Interval time.Duration
	// Now is the clock that expiry is measured by; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Certificate is the certificate of a server. It is safe for concurrent use.
type Certificate struct {
	opts Options
	// reloading serializes Reload.
	reloading sync.Mutex

	mu      sync.Mutex
	current *tls.Certificate
	// digest is that of the content of both files that was read last, valid or not.
	digest   [sha256.Size]byte
	warnedAt time.Time
}

// Open reads the files.
func Open(o Options) (*Certificate, error) {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Certificate{opts: o}
	cert, digest, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current, c.digest = cert, digest
	return c, nil
}

// Get returns the current certificate, for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, nil
}

// Expiry returns when the current certificate expires.
func (c *Certificate) Expiry() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf.NotAfter
}

// Run reads the files again from time to time until ctx is done. It logs a warning each
// day while the certificate is about to expire.
func (c *Certificate) Run(ctx context.Context) {
	tick := time.NewTicker(c.opts.Interval)
	defer tick.Stop()
	for {
		c.warn()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.Reload()
		}
	}
}

// Reload reads the files now. New connections get the new certificate. If the files are
// not valid, the old one stays, and Reload logs the reason once for each content: the
// two files are not replaced at the same moment.
func (c *Certificate) Reload() {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	cert, digest, err := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if digest == c.digest {
		return
	}
	c.digest = digest
	if now := c.opts.Now(); err == nil && !now.Before(cert.Leaf.NotAfter) {
		err = errors.New(ExpiryWarning(cert.Leaf, now))
	}
	if err != nil {
		c.opts.Log.Error("the new certificate is not used; the old one stays", "cert", c.opts.Cert, "reason", err, "expires", c.current.Leaf.NotAfter)
		return
	}
	c.current, c.warnedAt = cert, time.Time{}
	c.opts.Log.Info("new connections get the new certificate", "cert", c.opts.Cert, "expires", cert.Leaf.NotAfter)
}

// read reads the files. The digest also covers an error, so that a changed error is a
// change.
func (c *Certificate) read() (cert *tls.Certificate, digest [sha256.Size]byte, err error) {
	fail := func(err error) (*tls.Certificate, [sha256.Size]byte, error) {
		return nil, sha256.Sum256([]byte(err.Error())), err
	}
	certPEM, err := os.ReadFile(c.opts.Cert)
	if err != nil {
		return fail(err)
	}
	keyPEM, err := privatefile.Read(c.opts.Key)
	if err != nil {
		return fail(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	return &pair, sha256.Sum256(bytes.Join([][]byte{certPEM, keyPEM}, []byte{0})), err
}

// warn logs that the certificate expires soon, once in warnInterval.
func (c *Certificate) warn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	if text := ExpiryWarning(c.current.Leaf, now); text != "" && now.Sub(c.warnedAt) >= warnInterval {
		c.warnedAt = now
		c.opts.Log.Warn("replace the certificate", "cert", c.opts.Cert, "reason", text)
	}
}

// ExpiryWarning returns a warning if a certificate has expired, or expires within
// WarnBefore; else an empty text.
func ExpiryWarning(leaf *x509.Certificate, now time.Time) string {
	at := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return "it has expired at " + at
	case left < WarnBefore:
		return fmt.Sprintf("it expires in %d days, at %s", int(left.Hours()/24), at)
	}
	return ""
}
