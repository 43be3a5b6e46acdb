// Package selfcert provides TLS without a certificate authority. A server creates its own
// certificate, and clients verify its fingerprint, which they get separately, for example
// together with a token. The verification ignores names and addresses, so the certificate
// stays valid when the server moves.
package selfcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// The names of the files in the server's directory.
const (
	CertFile = "tls.crt"
	KeyFile  = "tls.key"
)

// ErrFingerprint means that the server has another certificate than expected.
var ErrFingerprint = errors.New("the server's certificate is not the expected one")

// lifetime is the validity of a certificate. It is long, because all clients need the new
// fingerprint when the certificate changes.
const lifetime = 20 * 365 * 24 * time.Hour

// Load reads the certificate and the key in dir. If neither exists, it creates both, readable
// only by the owner. If only one exists, it returns an error: Load never replaces a file.
func Load(dir string) (tls.Certificate, error) {
	cert, key := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	if missing(cert) && missing(key) {
		if err := create(cert, key); err != nil {
			return tls.Certificate{}, fmt.Errorf("create a certificate: %w", err)
		}
	}
	if err := privatefile.Check(key); errors.Is(err, privatefile.ErrExposed) {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w; to create a new certificate, delete %s and %s; all agents must then enrol again", err, cert, key)
	}
	return pair, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// create writes the key first, so that a certificate never exists without its key.
func create(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	// Clients that verify names, for example curl with the certificate as authority, can
	// connect from the same machine.
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "tasker control plane"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		return err
	}
	return atomicfile.Replace(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Fingerprint returns the SHA-256 of a certificate's DER in base64url, 43 characters.
func Fingerprint(cert tls.Certificate) string { return fingerprint(cert.Certificate[0]) }

// FingerprintPEM returns the fingerprint of the first certificate in PEM.
func FingerprintPEM(content []byte) (string, error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return fingerprint(block.Bytes), nil
		}
	}
	return "", errors.New("the PEM contains no certificate")
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Trust returns a client configuration that accepts only a server with this fingerprint.
// Handshakes with other servers fail with ErrFingerprint.
func Trust(expected string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, also when a session is resumed
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 ||
				subtle.ConstantTimeCompare([]byte(fingerprint(state.PeerCertificates[0].Raw)), []byte(expected)) != 1 {
				return ErrFingerprint
			}
			return nil
		},
	}
}
