package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/certfile"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// https is the TLS of the API.
type https struct {
	// config is nil if the API uses HTTP.
	config *tls.Config
	// fingerprint is the fingerprint of a certificate that the control plane created itself,
	// and empty for a configured certificate.
	fingerprint string
	// files is the configured certificate, which may be replaced; nil if there is none.
	files *certfile.Certificate
	// expiry returns when the certificate expires; the zero time without HTTPS.
	expiry func() time.Time
}

// newHTTPS reads the certificate, or creates a self-signed one.
func newHTTPS(c *config.ControlPlane, log *slog.Logger) (h https, err error) {
	h.expiry = func() time.Time { return time.Time{} }
	protocols := []string{"h2", "http/1.1"}
	switch {
	case c.API.TLS.HasFiles():
		h.files, err = certfile.Open(certfile.Options{Cert: c.API.TLS.Cert, Key: c.API.TLS.Key, Log: log})
		if err != nil {
			return https{}, fmt.Errorf("read api.tls: %w", err)
		}
		h.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: h.files.Get, NextProtos: protocols}
		h.expiry = h.files.Expiry
	case c.API.SelfCertified():
		if err = os.MkdirAll(c.DataDir, 0o700); err != nil {
			return https{}, fmt.Errorf("create the data directory: %w", err)
		}
		cert, err := selfcert.Load(c.DataDir)
		if err != nil {
			return https{}, err
		}
		h.config = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: protocols}
		h.fingerprint = selfcert.Fingerprint(cert)
		h.expiry = func() time.Time { return cert.Leaf.NotAfter }
	}
	return h, nil
}

// run watches the files of the certificate until stop is called.
func (h https) run() (stop func()) {
	if h.files == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.files.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// reload reads the files of the certificate now.
func (h https) reload() {
	if h.files != nil {
		h.files.Reload()
	}
}

// expiryMetric returns the metric of the certificate's expiry.
func (h https) expiryMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tasker_controlplane_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the API expires; 0 without HTTPS.",
	}, func() float64 {
		if at := h.expiry(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
}

// certificateWarning returns a warning if the API's certificate expires soon; empty if it
// does not, or if it does not exist yet.
func certificateWarning(c *config.ControlPlane) string {
	file := c.API.TLS.Cert
	switch {
	case c.API.TLS.HasFiles():
	case c.API.SelfCertified():
		file = filepath.Join(c.DataDir, selfcert.CertFile)
	default:
		return ""
	}
	content, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	if text := certfile.ExpiryWarning(leaf, time.Now()); text != "" {
		return fmt.Sprintf("replace the certificate %s: %s", file, text)
	}
	return ""
}

// urlFile has the API's URL for the command line on the same machine.
const urlFile = "api.url"

// writeURL writes the URL under which this machine reaches the API to urlFile.
func writeURL(c *config.ControlPlane, address net.Addr, secure bool) error {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return fmt.Errorf("write the API's URL: %w", err)
	}
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	text := scheme + "://" + net.JoinHostPort(host, port) + "\n"
	if err := os.WriteFile(filepath.Join(c.DataDir, urlFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the API's URL: %w", err)
	}
	return nil
}
