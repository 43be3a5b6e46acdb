package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/MatthiasWiesner/tasker/controlplane/api/access"
	"github.com/MatthiasWiesner/tasker/controlplane/enrol"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Gate decides who speaks for an endpoint. A hub, which is made before the
// ControlPlane, asks it; until New has the database it knows nobody.
type Gate struct {
	auth    bool
	service atomic.Pointer[enrol.Service]
}

// NewGate makes a Gate; auth says whether the API asks for tokens.
func NewGate(auth bool) *Gate { return &Gate{auth: auth} }

// Request says why a request that access has let in may not speak for the endpoint,
// with transport.ErrUnavailable where that cannot be told now. Without tokens the
// name is believed, unless it was revoked.
func (g *Gate) Request(r *http.Request, endpoint string) error {
	switch who := access.From(r.Context()); {
	case !g.auth || who.Endpoint == endpoint:
		return g.ask(r.Context(), endpoint, (*enrol.Service).Own)
	case who.Endpoint != "":
		return fmt.Errorf("this secret is that of %s, and speaks for no other endpoint", who.Endpoint)
	default:
		return g.ask(r.Context(), endpoint, (*enrol.Service).Shared)
	}
}

// User says the same of a user of the message queue: the endpoint's own, or the
// control plane's.
func (g *Gate) User(ctx context.Context, user, endpoint string) error {
	if user == endpoint {
		return g.ask(ctx, endpoint, (*enrol.Service).Own)
	}
	return g.ask(ctx, endpoint, (*enrol.Service).Shared)
}

func (g *Gate) ask(ctx context.Context, endpoint string, may func(*enrol.Service, context.Context, string) error) error {
	service := g.service.Load()
	if service == nil {
		return fmt.Errorf("%w: the control plane is starting", transport.ErrUnavailable)
	}
	err := may(service, ctx, endpoint)
	if errors.Is(err, store.ErrUnavailable) || err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
	}
	return err
}
