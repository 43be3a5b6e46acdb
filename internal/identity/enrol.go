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

// The errors of Enrol, beside those of files; match them with errors.Is. Their text
// says what to do, and holds no secret.
var (
	// ErrUnreachable: no control plane answers at the URL.
	ErrUnreachable = errors.New("the control plane cannot be reached")
	// ErrUnavailable: the control plane cannot enrol anyone now; later it can.
	ErrUnavailable = errors.New("the control plane cannot enrol now")
	// ErrToken: the control plane does not take the enrolment token.
	ErrToken = errors.New("the enrolment token is not accepted")
	// ErrTaken: the name is another server's.
	ErrTaken = errors.New("the control plane does not give out this name")
	// ErrRefused: the control plane does not take the request, for another reason.
	ErrRefused = errors.New("the control plane refuses")
	// ErrEnrolled: this server has another identity already.
	ErrEnrolled = errors.New("this server is enrolled already")
)

// Request says where and as whom a server enrols.
type Request struct {
	// Server is the control plane's http(s)://HOST:PORT.
	Server   string
	Token    string
	Endpoint string
	// TLS is how the control plane is trusted; nil trusts the system's authorities.
	TLS *tls.Config
	// CA and Fingerprint are kept in the identity.
	CA          string
	Fingerprint string
	// Replace lets the new identity take the place of one under another name or at
	// another control plane.
	Replace bool
}

// Fingerprint is what an enrolment token says of the certificate that the control
// plane has made itself; it is empty where it has not.
func Fingerprint(token string) string {
	_, known, _ := strings.Cut(token, ".")
	return known
}

// HostName is the name of this server, as a name for its endpoint.
func HostName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this server's host name: %w", err)
	}
	name = strings.ToLower(name)
	if err := tasker.ValidateEndpoint(name); err != nil {
		return "", fmt.Errorf("this server's host name cannot be its endpoint's: %w; choose one with --endpoint", err)
	}
	return name, nil
}

// Enrol asks the control plane for an identity and keeps it in dir. It may be
// repeated, after an error or a crash too: the secret is kept before it is sent, so
// that the same enrolment is asked for again. A server that is enrolled so already
// keeps its secret, unless that was revoked.
func Enrol(ctx context.Context, dir string, r Request) (*Identity, error) {
	var err error
	if r.Server, err = normal(r.Server); err != nil {
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
			return nil, fmt.Errorf("%w, as endpoint %s at %s (%s); --force gives it another identity", ErrEnrolled, old.Endpoint, old.ControlPlane, File(dir))
		}
		old = nil
	}
	if old != nil {
		if i, err := r.complete(ctx, dir, old.Secret); !errors.Is(err, ErrTaken) {
			return i, err
		}
		// The secret was revoked: only a new one may have the name again.
	}
	secret, err := r.pending(dir, old)
	if err != nil {
		return nil, err
	}
	i, err := r.complete(ctx, dir, secret)
	if err == nil || errors.Is(err, ErrTaken) {
		// A secret that was not taken never will be.
		err = errors.Join(err, forget(dir))
	}
	return i, err
}

func (r Request) check() error {
	if err := tasker.ValidateEndpoint(r.Endpoint); err != nil {
		return err
	}
	if r.Token == "" || strings.ContainsFunc(r.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("the enrolment token is not one word; `tasker enrol-token create` prints one at the control plane")
	}
	if !strings.HasPrefix(r.Token, tasker.EnrolTokenPrefix) {
		return errors.New("this is no enrolment token: one begins with " + tasker.EnrolTokenPrefix + "; `tasker enrol-token create` prints one at the control plane")
	}
	if r.Fingerprint != "" && strings.HasPrefix(r.Server, "http://") {
		return fmt.Errorf("the enrolment token is of a control plane that speaks https; write https://%s", strings.TrimPrefix(r.Server, "http://"))
	}
	return nil
}

// pending returns the secret of an enrolment that was begun and not completed, or
// begins one.
func (r Request) pending(dir string, old *Identity) (Secret, error) {
	file := filepath.Join(dir, pendingFile)
	p, err := read(file)
	if err == nil && p.Endpoint == r.Endpoint && p.ControlPlane == r.Server && (old == nil || p.Secret != old.Secret.Reveal()) {
		return Secret(p.Secret), nil
	}
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("choose a secret: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(random[:])
	return Secret(secret), write(dir, pendingFile, record{Endpoint: r.Endpoint, ControlPlane: r.Server, Secret: secret})
}

func forget(dir string) error {
	if err := os.Remove(filepath.Join(dir, pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was kept for enrolling: %w", err)
	}
	return nil
}

// complete makes the request and keeps the answer.
func (r Request) complete(ctx context.Context, dir string, secret Secret) (*Identity, error) {
	e, err := r.post(ctx, secret)
	if err != nil {
		return nil, err
	}
	kept := record{
		Endpoint: e.Endpoint, ControlPlane: r.Server, Server: e.Server, Secret: secret.Reveal(), Keys: e.Keys,
		CA: r.CA, Fingerprint: r.Fingerprint,
	}
	if kept.Server == "" {
		kept.Server = r.Server
	}
	err = kept.check()
	switch {
	case err != nil:
	case e.Endpoint != r.Endpoint:
		err = errors.New("it names another endpoint")
	case len(e.Keys) == 0:
		err = errors.New("it has no key that orders are signed with")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the answer of %s is not valid: %w", ErrRefused, r.Server, err)
	}
	if err := write(dir, identityFile, kept); err != nil {
		return nil, err
	}
	return Load(dir)
}
