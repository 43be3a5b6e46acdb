package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// https returns the API's TLS configuration, or nil if the API uses HTTP. fingerprint is
// the fingerprint of a certificate that the control plane created itself, and empty for a
// configured certificate.
func https(c *config.ControlPlane) (conf *tls.Config, fingerprint string, err error) {
	var cert tls.Certificate
	switch {
	case c.API.TLS.HasFiles():
		if cert, err = tls.LoadX509KeyPair(c.API.TLS.Cert, c.API.TLS.Key); err != nil {
			return nil, "", fmt.Errorf("read api.tls: %w", err)
		}
	case c.API.SelfCertified():
		if err = os.MkdirAll(c.DataDir, 0o700); err != nil {
			return nil, "", fmt.Errorf("create the data directory: %w", err)
		}
		if cert, err = selfcert.Load(c.DataDir); err != nil {
			return nil, "", err
		}
		fingerprint = selfcert.Fingerprint(cert)
	default:
		return nil, "", nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, fingerprint, nil
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
