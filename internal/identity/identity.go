package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// The files in the data directory. The pending file contains a secret that the control
// plane may not have accepted yet; it is removed when the identity is complete.
const (
	identityFile = "identity.json"
	pendingFile  = "enrolling.json"
)

// Secret is an endpoint's credential. It is hidden wherever it is printed, logged
// or marshalled.
type Secret string

const hidden = "********"

// Reveal returns the secret.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (s Secret) String() string { return hidden }

// GoString hides the secret.
func (s Secret) GoString() string { return hidden }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Identity is the identity of an enrolled server.
type Identity struct {
	Endpoint string
	// ControlPlane is the URL of the control plane at which the server has enrolled.
	ControlPlane string
	// Server is the URI to which the agent connects: that of the control plane, or the
	// amqp(s)://HOST:PORT/VHOST of the message queue.
	Server string
	Secret Secret
	// Keys verify the signatures of orders.
	Keys []ed25519.PublicKey
	// CA contains PEM certificates to trust in addition to those of the system. If
	// Fingerprint is not empty, only the control plane's self-signed certificate with this
	// fingerprint is trusted. Both may be empty.
	CA          string
	Fingerprint string
}

// URI returns Server with the user and password for the message queue. For http(s), the
// secret is the bearer token instead.
func (i *Identity) URI() string {
	scheme, rest, _ := strings.Cut(i.Server, "://")
	if !strings.HasPrefix(scheme, "amqp") {
		return i.Server
	}
	return scheme + "://" + url.UserPassword(i.Endpoint, i.Secret.Reveal()).String() + "@" + rest
}

// record is the encoding of an Identity in its file.
type record struct {
	Endpoint     string   `json:"endpoint"`
	ControlPlane string   `json:"control_plane"`
	Server       string   `json:"server,omitempty"`
	Secret       string   `json:"secret"`
	Keys         [][]byte `json:"keys,omitempty"`
	CA           string   `json:"ca,omitempty"`
	Fingerprint  string   `json:"fingerprint,omitempty"`
}

// File returns the path of the identity in a data directory.
func File(dir string) string { return filepath.Join(dir, identityFile) }

// Load reads the identity of an agent. The error wraps fs.ErrNotExist if there is none. A
// file that others may read, or that Enrol has not written like this, is an error.
func Load(dir string) (*Identity, error) {
	r, err := read(File(dir))
	if err == nil && (r.Server == "" || len(r.Keys) == 0) {
		err = errors.New("it is incomplete")
	}
	if err != nil {
		return nil, loadError(File(dir), err)
	}
	i := &Identity{
		Endpoint: r.Endpoint, ControlPlane: r.ControlPlane, Server: r.Server, Secret: Secret(r.Secret),
		CA: r.CA, Fingerprint: r.Fingerprint,
	}
	for _, key := range r.Keys {
		i.Keys = append(i.Keys, key)
	}
	return i, nil
}

// loadError explains how to repair a file that cannot be loaded.
func loadError(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the identity of this server: %w", err)
	}
	return fmt.Errorf("read the identity of this server: %s: %w; repair the file, or remove it and enrol again", file, err)
}

// maxSize bounds the size of an identity in bytes.
const maxSize = 1 << 20

// read reads and checks a file that contains a secret.
func read(file string) (record, error) {
	f, err := openPrivate(file)
	if err != nil {
		return record{}, err
	}
	defer func() { _ = f.Close() }()
	var r record
	d := json.NewDecoder(io.LimitReader(f, maxSize))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return record{}, fmt.Errorf("it is damaged: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record{}, errors.New("it is damaged: there is more after its end")
	}
	return r, r.check()
}

func (r record) check() error {
	if err := tasker.ValidateEndpoint(r.Endpoint); err != nil {
		return err
	}
	if err := tasker.ValidateSecret(r.Secret); err != nil {
		return err
	}
	if normalized, err := normalizeURL(r.ControlPlane); err != nil || normalized != r.ControlPlane {
		return errors.New("control_plane is not the URL of a control plane")
	}
	if r.Server != "" && r.Server != r.ControlPlane {
		if err := checkQueue(r.Server); err != nil {
			return err
		}
	}
	for _, key := range r.Keys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("a key has %d bytes, not %d", len(key), ed25519.PublicKeySize)
		}
	}
	if r.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(r.CA)) {
		return errors.New("ca contains no PEM certificate")
	}
	return nil
}

// checkQueue checks the URI of a message queue, which must not contain a user.
func checkQueue(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("server is not an amqp(s)://HOST:PORT/VHOST without user")
	}
	return nil
}

// normalizeURL returns the canonical form of the URL of a control plane.
func normalizeURL(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL of the control plane is not valid: write it as https://HOST:PORT or http://HOST:PORT, without user and password")
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), nil
}
