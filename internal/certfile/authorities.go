package certfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TrustAuthorities returns a client configuration that trusts the authorities of the
// system, those in the PEM file, and those in extra (PEM, may be empty). The file is read
// at each handshake, so a replaced file counts for new connections. If the file is not
// valid then, the handshake fails with the reason. host is the name or the IP address of
// the server. TrustAuthorities returns an error if the file is not valid now.
func TrustAuthorities(file, extra, host string) (*tls.Config, error) {
	load := func() (*x509.CertPool, error) {
		content, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, err
		}
		contents := [][]byte{content}
		if extra != "" {
			contents = append(contents, []byte(extra))
		}
		pool, err := Pool(contents...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return pool, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, with authorities that may change
		VerifyConnection: func(state tls.ConnectionState) error {
			pool, err := load()
			if err != nil {
				return fmt.Errorf("read the authorities: %w", err)
			}
			return verify(state, pool, host)
		},
	}, nil
}

// Pool returns the authorities of the system and those in the PEM contents.
func Pool(contents ...[]byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, content := range contents {
		if !pool.AppendCertsFromPEM(content) {
			return nil, errors.New("it contains no certificate in PEM")
		}
	}
	return pool, nil
}

// verify verifies the server's certificate as crypto/tls does.
func verify(state tls.ConnectionState, pool *x509.CertPool, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has sent no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, DNSName: host})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}
