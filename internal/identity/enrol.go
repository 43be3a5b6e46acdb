package identity

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// The errors of Enrol, besides those of files; match them with errors.Is. The messages
// contain advice, and no secrets.
var (
	// ErrUnreachable means that no control plane responds at the URL.
	ErrUnreachable = errors.New("the control plane cannot be reached")
	// ErrUnavailable means that the control plane cannot enrol servers at the moment.
	ErrUnavailable = errors.New("the control plane cannot enrol now")
	// ErrInvalidToken means that the control plane does not accept the enrolment token.
	ErrInvalidToken = errors.New("the enrolment token is not accepted")
	// ErrNameTaken means that the name belongs to another server.
	ErrNameTaken = errors.New("the control plane does not assign this name")
	// ErrRefused means that the control plane does not accept the request for another
	// reason.
	ErrRefused = errors.New("the control plane refuses the request")
	// ErrAlreadyEnrolled means that this server already has another identity.
	ErrAlreadyEnrolled = errors.New("this server is already enrolled")
)

// Request describes an enrolment.
type Request struct {
	// Server is the http(s)://HOST:PORT of the control plane.
	Server   string
	Token    string
	Endpoint string
	// TLS verifies the control plane; nil trusts the certificate authorities of the system.
	TLS *tls.Config
	// CA and Fingerprint are stored in the identity.
	CA          string
	Fingerprint string
	// Replace allows the new identity to replace one with another name or at another control
	// plane.
	Replace bool
}

// Fingerprint returns the fingerprint of the control plane's self-signed certificate, which
// is a part of the enrolment token. It is empty if the token has none.
func Fingerprint(token string) string {
	_, fingerprint, _ := strings.Cut(token, ".")
	return fingerprint
}

// HostName returns the host name of this server in the form of an endpoint name.
func HostName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this server's host name: %w; name the endpoint with --endpoint NAME", err)
	}
	return endpointName(name)
}

// endpointName returns the endpoint name for a host name. It refuses the names of servers
// that were not given one: another server would have the same name.
func endpointName(host string) (string, error) {
	name := strings.ToLower(host)
	first, _, _ := strings.Cut(name, ".")
	switch {
	case name == "", name == "(none)", first == "localhost", first == "localhost4", first == "localhost6":
		return "", fmt.Errorf("the host name of this server is %q, which is no name of its own: set a host name, or name the endpoint with --endpoint NAME or in the configuration", host)
	}
	if err := tasker.ValidateEndpoint(name); err != nil {
		return "", fmt.Errorf("the host name of this server is not a valid endpoint name: %w; name the endpoint with --endpoint NAME", err)
	}
	return name, nil
}

// Enrol enrols the server at the control plane and stores its identity in dir. Enrol can be
// repeated, also after an error or a crash: it stores the secret before it sends it, and
// then repeats the same request. A server that is already enrolled with this name keeps its
// secret, unless the secret was revoked.
func Enrol(ctx context.Context, dir string, r Request) (*Identity, error) {
	var err error
	if r.Server, err = normalizeURL(r.Server); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	old, err := Load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && !r.Replace:
		return nil, err
	case err == nil && (old.Endpoint != r.Endpoint || old.ControlPlane != r.Server):
		if !r.Replace {
			return nil, fmt.Errorf("%w, as endpoint %s at %s (%s); --force gives it another identity", ErrAlreadyEnrolled, old.Endpoint, old.ControlPlane, File(dir))
		}
		old = nil
	}
	if old != nil {
		if i, err := r.complete(ctx, dir, old.Secret); !errors.Is(err, ErrNameTaken) {
			return i, err
		}
		// The secret was revoked: only a new secret can get the name again.
	}
	secret, err := r.pendingSecret(dir, old)
	if err != nil {
		return nil, err
	}
	i, err := r.complete(ctx, dir, secret)
	if err == nil || errors.Is(err, ErrNameTaken) {
		// A secret that was not accepted now will never be.
		err = errors.Join(err, removePending(dir))
	}
	return i, err
}

func (r Request) check() error {
	if err := tasker.ValidateEndpoint(r.Endpoint); err != nil {
		return err
	}
	if r.Token == "" || strings.ContainsFunc(r.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("the enrolment token is not one word; create one with `tasker enrol-token create` at the control plane")
	}
	if !strings.HasPrefix(r.Token, tasker.EnrolTokenPrefix) {
		return errors.New("this is not an enrolment token, which begins with " + tasker.EnrolTokenPrefix + "; create one with `tasker enrol-token create` at the control plane")
	}
	if r.Fingerprint != "" && strings.HasPrefix(r.Server, "http://") {
		return fmt.Errorf("the enrolment token belongs to a control plane with https; use https://%s", strings.TrimPrefix(r.Server, "http://"))
	}
	return nil
}

// pendingSecret returns the secret of an enrolment that was not completed, or chooses and
// stores a new one.
func (r Request) pendingSecret(dir string, old *Identity) (Secret, error) {
	file := filepath.Join(dir, pendingFile)
	p, err := read(file)
	if err == nil && p.Endpoint == r.Endpoint && p.ControlPlane == r.Server && (old == nil || p.Secret != old.Secret.Reveal()) {
		return Secret(p.Secret), nil
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // It never fails.
	secret := base64.RawURLEncoding.EncodeToString(random)
	return Secret(secret), write(dir, pendingFile, record{Endpoint: r.Endpoint, ControlPlane: r.Server, Secret: secret})
}

func removePending(dir string) error {
	if err := os.Remove(filepath.Join(dir, pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the secret of the enrolment: %w", err)
	}
	return nil
}

// complete sends the request and stores the identity.
func (r Request) complete(ctx context.Context, dir string, secret Secret) (*Identity, error) {
	e, err := r.post(ctx, secret)
	if err != nil {
		return nil, err
	}
	identity := record{
		Endpoint: e.Endpoint, ControlPlane: r.Server, Server: e.Server, Secret: secret.Reveal(), Keys: e.Keys,
		CA: r.CA, Fingerprint: r.Fingerprint,
	}
	if identity.Server == "" {
		identity.Server = r.Server
	}
	err = identity.check()
	switch {
	case err != nil:
	case e.Endpoint != r.Endpoint:
		err = errors.New("it contains another endpoint")
	case len(e.Keys) == 0:
		err = errors.New("it contains no key for the signatures of orders")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the response of %s is not valid: %w", ErrRefused, r.Server, err)
	}
	if err := write(dir, identityFile, identity); err != nil {
		return nil, err
	}
	return Load(dir)
}
