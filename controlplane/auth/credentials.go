package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Identify returns the endpoint that the secret belongs to. ErrNotFound means that no
// endpoint has it, or that it is revoked.
func (e *Enroller) Identify(ctx context.Context, secret string) (endpoint string, err error) {
	return e.opts.Store.Identify(ctx, digest(secret))
}

// CheckSharedCredential returns nil if a shared credential is accepted for the endpoint:
// the agents' token, or the control plane's own user at the message queue. ErrTaken means
// that the endpoint is enrolled, ErrRevoked that it is revoked.
func (e *Enroller) CheckSharedCredential(ctx context.Context, endpoint string) error {
	c, err := e.opts.Store.Credential(ctx, endpoint)
	if err != nil {
		return err
	}
	return sharedError(endpoint, c)
}

// CheckSharedCredentials is CheckSharedCredential for several endpoints. It returns those
// for which no shared credential is accepted, and why.
func (e *Enroller) CheckSharedCredentials(ctx context.Context, endpoints []string) (map[string]error, error) {
	credentials, err := e.opts.Store.Credentials(ctx, endpoints)
	if err != nil {
		return nil, err
	}
	refused := map[string]error{}
	for name, c := range credentials {
		if err := sharedError(name, c); err != nil {
			refused[name] = err
		}
	}
	return refused, nil
}

// sharedError returns why no shared credential is accepted for an endpoint; nil if one is.
func sharedError(endpoint string, c store.Credential) error {
	switch {
	case c.RevokedAt != nil:
		return revokedError(endpoint, *c.RevokedAt)
	case c.EnrolledAt != nil:
		return fmt.Errorf("the name %s %w: it has been enrolled since %s, so only its own secret is accepted", endpoint, ErrTaken, c.EnrolledAt.Format(time.RFC3339))
	}
	return nil
}

// CheckOwnCredential returns nil if the endpoint is accepted after it has proved its
// identity with its own credential. ErrRevoked means that the endpoint is revoked.
func (e *Enroller) CheckOwnCredential(ctx context.Context, endpoint string) error {
	c, err := e.opts.Store.Credential(ctx, endpoint)
	if err == nil && c.RevokedAt != nil {
		err = revokedError(endpoint, *c.RevokedAt)
	}
	return err
}

func revokedError(endpoint string, at time.Time) error {
	return fmt.Errorf("endpoint %s: %w at %s; to readmit the server, enrol it again with a new token", endpoint, ErrRevoked, at.Format(time.RFC3339))
}
