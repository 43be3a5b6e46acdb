// Package selfcert is TLS without a certificate authority: a server makes its own
// certificate, and clients know it by its fingerprint, which reaches them on
// another way (with a token, say). Names and addresses play no part in it, so the
// certificate stays good when the server moves.
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
)

// The names of the files in the server's directory.
const (
	CertFile = "tls.crt"
	KeyFile  = "tls.key"
)

// ErrFingerprint: what answers has another certificate than the one expected.
var ErrFingerprint = errors.New("the server's certificate is not the expected one")

// lifetime is how long a certificate is good for. Those who know it by its
// fingerprint have to be told when it changes, so that is long.
const lifetime = 20 * 365 * 24 * time.Hour

// Load reads the certificate and the key in dir, and makes both, readable by the
// owner only, when there is neither. One that is there without the other is an
// error: nothing is ever made anew by itself.
func Load(dir string) (tls.Certificate, error) {
	cert, key := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	if missing(cert) && missing(key) {
		if err := create(cert, key); err != nil {
			return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w; delete %s and %s and they are made anew, and then all who know the old one have to enrol again", err, cert, key)
	}
	return pair, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// create writes the key first: a certificate without its key is never left.
func create(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	// A client that goes by names, like curl with the certificate as its authority,
	// reaches it from the same machine.
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

// Fingerprint names a certificate: the SHA-256 of its DER, in base64url, 43
// characters.
func Fingerprint(cert tls.Certificate) string { return fingerprint(cert.Certificate[0]) }

// FingerprintPEM is the fingerprint of the first certificate in PEM.
func FingerprintPEM(content []byte) (string, error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return fingerprint(block.Bytes), nil
		}
	}
	return "", errors.New("there is no certificate in PEM")
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Trust makes a client take the server with this fingerprint, and no other. Its
// handshakes fail with ErrFingerprint.
func Trust(known string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, also when a session is resumed
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 ||
				subtle.ConstantTimeCompare([]byte(fingerprint(state.PeerCertificates[0].Raw)), []byte(known)) != 1 {
				return ErrFingerprint
			}
			return nil
		},
	}
}
