// Package identity is the agent's side of enrolment: it asks a control plane for a
// credential of this server's own, and keeps what came of it in the agent's data
// directory.
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

// The files in the data directory. The pending one holds a secret that was chosen
// and may not have been taken; it makes way for the identity.
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

// Identity is who this server is since it has enrolled.
type Identity struct {
	Endpoint string
	// ControlPlane is the URL of the control plane at which it has enrolled.
	ControlPlane string
	// Server is where the agent connects to: that URL, or the message queue's
	// amqp(s)://HOST:PORT/VHOST.
	Server string
	Secret Secret
	// Keys are those that orders are signed with.
	Keys []ed25519.PublicKey
	// CA are certificates, in PEM, that are trusted beside the system's. Fingerprint
	// is that of the control plane's own certificate, which then is the only one
	// that is trusted there. Both may be empty.
	CA          string
	Fingerprint string
}

// URI is Server with the user and password that the message queue wants; over
// http(s) the secret is the bearer token instead.
func (i *Identity) URI() string {
	scheme, rest, _ := strings.Cut(i.Server, "://")
	if !strings.HasPrefix(scheme, "amqp") {
		return i.Server
	}
	return scheme + "://" + url.UserPassword(i.Endpoint, i.Secret.Reveal()).String() + "@" + rest
}

// record is an Identity as it stands in its file.
type record struct {
	Endpoint     string   `json:"endpoint"`
	ControlPlane string   `json:"control_plane"`
	Server       string   `json:"server,omitempty"`
	Secret       string   `json:"secret"`
	Keys         [][]byte `json:"keys,omitempty"`
	CA           string   `json:"ca,omitempty"`
	Fingerprint  string   `json:"fingerprint,omitempty"`
}

// File is where the identity of an agent with this data directory is.
func File(dir string) string { return filepath.Join(dir, identityFile) }

// Load reads the identity of an agent; its error is fs.ErrNotExist if there is none.
// A file that others may read, or that is not as Enrol has written it, is an error.
func Load(dir string) (*Identity, error) {
	r, err := read(File(dir))
	if err == nil && (r.Server == "" || len(r.Keys) == 0) {
		err = errors.New("it is not complete")
	}
	if err != nil {
		return nil, broken(File(dir), err)
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

func broken(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read who this server is: %w", err)
	}
	return fmt.Errorf("read who this server is: %s: %w; put it right, or remove it and enrol again", file, err)
}

// limit is more than an identity ever has.
const limit = 1 << 20

// read reads a file that holds a secret, and checks what is in it.
func read(file string) (record, error) {
	f, err := openPrivate(file)
	if err != nil {
		return record{}, err
	}
	defer func() { _ = f.Close() }()
	var r record
	d := json.NewDecoder(io.LimitReader(f, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return record{}, fmt.Errorf("it is not what was written: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record{}, errors.New("it is not what was written: there is more after its end")
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
	if at, err := normal(r.ControlPlane); err != nil || at != r.ControlPlane {
		return errors.New("control_plane is no URL of a control plane")
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
		return errors.New("ca holds no certificate in PEM")
	}
	return nil
}

// checkQueue checks the address of a message queue, which has no user in it.
func checkQueue(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("server is no amqp(s)://HOST:PORT/VHOST without user")
	}
	return nil
}

// normal is the one way in which the URL of a control plane is written.
func normal(server string) (string, error) {
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
