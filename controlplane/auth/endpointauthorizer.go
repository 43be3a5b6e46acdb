package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// EndpointAuthorizer decides whether a caller may act for an endpoint. A hub needs it
// before the control plane has opened its database; until SetEnroller is called, every
// check returns transport.ErrUnavailable.
type EndpointAuthorizer struct {
	tokensRequired, acceptsShared bool
	enroller                      atomic.Pointer[Enroller]
}

// errNotEnrolled refuses an agent that has no credential of its own.
var errNotEnrolled = errors.New("agents must be enrolled: run tasker-agent enrol on the server, or set api.agent_token: on in the configuration of the control plane")

// NewEndpointAuthorizer returns an EndpointAuthorizer. tokensRequired is whether the API
// requires tokens, and acceptsShared whether agents may connect without a credential of
// their own: with the agents' token, or as the control plane's user at the message queue.
func NewEndpointAuthorizer(tokensRequired, acceptsShared bool) *EndpointAuthorizer {
	return &EndpointAuthorizer{tokensRequired: tokensRequired, acceptsShared: acceptsShared}
}

// SetEnroller sets the source of the endpoints' credentials.
func (a *EndpointAuthorizer) SetEnroller(e *Enroller) { a.enroller.Store(e) }

// AuthorizeRequest returns nil if the caller of an authorized request may act for the
// endpoint. transport.ErrUnavailable means that this cannot be decided now. If the API
// requires no tokens, every endpoint that is not revoked is accepted.
func (a *EndpointAuthorizer) AuthorizeRequest(r *http.Request, endpoint string) error {
	switch caller := CallerFrom(r.Context()); {
	case !a.tokensRequired || caller.Endpoint == endpoint:
		return a.authorize(r.Context(), endpoint, (*Enroller).CheckOwnCredential)
	case caller.Endpoint != "":
		return fmt.Errorf("this is the secret of endpoint %s, which is valid for no other endpoint", caller.Endpoint)
	default:
		return a.authorizeShared(r.Context(), endpoint)
	}
}

// HasOwnCredential reports whether the caller of an authorized request has sent the secret
// of an endpoint.
func HasOwnCredential(r *http.Request) bool { return CallerFrom(r.Context()).Endpoint != "" }

// AuthorizeUser does the same for a user of the message queue: the endpoint's own user or
// the control plane's.
func (a *EndpointAuthorizer) AuthorizeUser(ctx context.Context, user, endpoint string) error {
	if user == endpoint {
		return a.authorize(ctx, endpoint, (*Enroller).CheckOwnCredential)
	}
	return a.authorizeShared(ctx, endpoint)
}

// authorizeShared authorizes a caller with a shared credential.
func (a *EndpointAuthorizer) authorizeShared(ctx context.Context, endpoint string) error {
	err := a.authorize(ctx, endpoint, (*Enroller).CheckSharedCredential)
	if err == nil && !a.acceptsShared {
		return errNotEnrolled
	}
	return err
}

// AuthorizeShared is AuthorizeUser for the control plane's user and several endpoints. It
// returns the endpoints for which that user may not act, and why. An error wraps
// transport.ErrUnavailable or is that of ctx.
func (a *EndpointAuthorizer) AuthorizeShared(ctx context.Context, endpoints []string) (map[string]error, error) {
	var refused map[string]error
	err := a.authorize(ctx, "", func(e *Enroller, ctx context.Context, _ string) (err error) {
		refused, err = e.CheckSharedCredentials(ctx, endpoints)
		return err
	})
	if err != nil || a.acceptsShared {
		return refused, err
	}
	for _, name := range endpoints {
		if refused[name] == nil {
			refused[name] = errNotEnrolled
		}
	}
	return refused, nil
}

func (a *EndpointAuthorizer) authorize(ctx context.Context, endpoint string, check func(*Enroller, context.Context, string) error) error {
	enroller := a.enroller.Load()
	if enroller == nil {
		return fmt.Errorf("%w: the control plane is starting", transport.ErrUnavailable)
	}
	err := check(enroller, ctx, endpoint)
	if errors.Is(err, store.ErrUnavailable) || err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
	}
	return err
}
