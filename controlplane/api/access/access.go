// Package access decides who may make a request.
package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Role is what a caller may do; each one includes those below it.
type Role int

// The roles.
const (
	// Anyone may ask whether the control plane is alive.
	Anyone Role = iota
	// Agent may fetch orders and send reports.
	Agent
	// Admin may do everything.
	Admin
)

// Identity is who makes a request.
type Identity struct {
	// Name is for people and for the record of who cancelled what.
	Name string
	Role Role
	// Endpoint is set where the secret is an endpoint's own: it speaks for no other.
	Endpoint string
}

// Endpoints know whose own secret it is: store.ErrNotFound is nobody's, any other
// error that this cannot be told now.
type Endpoints interface {
	Identify(ctx context.Context, secret string) (endpoint string, err error)
}

// Options say who is let in.
type Options struct {
	// Off: no token is asked for. Only for a listener on the loopback interface.
	Off bool
	// Tokens are needed unless Off.
	Tokens Tokens
	// Endpoints may be nil; then no endpoint has a secret of its own.
	Endpoints Endpoints
	// Hosts are names, beside those of the loopback interface, under which the
	// API is reached while Off.
	Hosts []string
}

// Guard checks requests. It is safe for concurrent use.
type Guard struct {
	off          bool
	hosts        []string
	admin, agent [sha256.Size]byte
	endpoints    Endpoints
	origins      *http.CrossOriginProtection
}

// Denied says why a request is refused.
type Denied struct {
	// Status is 401, 403, or 503 where it cannot be told now.
	Status int
	// Detail is for people.
	Detail string
	// Challenge is the WWW-Authenticate header; empty is none.
	Challenge string
}

// Error returns the detail.
func (d *Denied) Error() string { return d.Detail }

// NewGuard makes a Guard.
func NewGuard(o Options) (*Guard, error) {
	if !o.Off && (o.Tokens.Admin == "" || o.Tokens.Agent == "") {
		return nil, errors.New("access: a token is empty, so that anyone would be let in")
	}
	return &Guard{
		off:   o.Off,
		hosts: o.Hosts,
		admin: sha256.Sum256([]byte(o.Tokens.Admin)),
		agent: sha256.Sum256([]byte(o.Tokens.Agent)),

		endpoints: o.Endpoints,
		origins:   http.NewCrossOriginProtection(),
	}, nil
}

// Off says whether no token is asked for.
func (g *Guard) Off() bool { return g.off }

// Check says who makes the request, or with a *Denied why it is refused: need
// is the role that it takes.
//
// A browser on the same machine reaches the loopback interface too, so pages
// of other sites are kept from using it: what changes something must come from
// a page of this server (or from no page at all), and without tokens the Host
// header must be a name of this server, lest a foreign name is made to point at
// it (DNS rebinding).
func (g *Guard) Check(r *http.Request, need Role) (Identity, error) {
	if err := g.origins.Check(r); err != nil {
		return Identity{}, &Denied{Status: http.StatusForbidden, Detail: "requests made by pages of another site are refused"}
	}
	if g.off {
		if !g.knownHost(r.Host) {
			if need == Anyone {
				return Identity{}, nil
			}
			return Identity{}, &Denied{
				Status: http.StatusForbidden,
				Detail: "without tokens this API answers only under localhost, a loopback address or the configured api.address, not under the host of this request",
			}
		}
		return Identity{Name: "local", Role: Admin}, nil
	}
	who, known, err := g.bearer(r)
	switch {
	case err != nil && need > Anyone:
		return Identity{}, &Denied{Status: http.StatusServiceUnavailable, Detail: "it cannot be told now whose token this is, as the database cannot be used; try again"}
	case who.Role >= need:
		return who, nil
	case known:
		return who, &Denied{Status: http.StatusForbidden, Detail: "an agent's token is good for agents' calls only; this takes the admin token"}
	case r.Header.Get("Authorization") != "":
		return who, &Denied{
			Status: http.StatusUnauthorized, Challenge: `Bearer realm="tasker", error="invalid_token"`,
			Detail: "the Authorization header holds no valid token; it must be 'Bearer' and the content of admin.token in the control plane's data_dir",
		}
	default:
		return who, &Denied{
			Status: http.StatusUnauthorized, Challenge: `Bearer realm="tasker"`,
			Detail: "a token is needed: send the header 'Authorization: Bearer …' with the content of admin.token in the control plane's data_dir",
		}
	}
}

// Bearer is the token that a request carries; empty is none.
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// bearer finds out whose token the request carries.
func (g *Guard) bearer(r *http.Request) (who Identity, known bool, err error) {
	token := Bearer(r)
	if token == "" {
		return Identity{}, false, nil
	}
	// Digests have one length, so the comparison tells nothing about the token's.
	sum := sha256.Sum256([]byte(token))
	admin := subtle.ConstantTimeCompare(sum[:], g.admin[:])
	agent := subtle.ConstantTimeCompare(sum[:], g.agent[:])
	switch {
	case admin == 1:
		return Identity{Name: "admin", Role: Admin}, true, nil
	case agent == 1:
		return Identity{Name: "agent", Role: Agent}, true, nil
	case g.endpoints == nil || tasker.ValidateSecret(token) != nil:
		return Identity{}, false, nil
	}
	endpoint, err := g.endpoints.Identify(r.Context(), token)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Identity{}, false, nil
	case err != nil:
		return Identity{}, false, fmt.Errorf("look for the owner of a token: %w", err)
	}
	return Identity{Name: endpoint, Role: Agent, Endpoint: endpoint}, true, nil
}

// knownHost says whether host, with or without a port, is a name of this server.
func (g *Guard) knownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return true
	}
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(g.hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

type contextKey struct{}

// With returns a context that carries who makes the request.
func With(ctx context.Context, who Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, who)
}

// From returns who makes the request; nobody's name is empty.
func From(ctx context.Context) Identity {
	who, _ := ctx.Value(contextKey{}).(Identity)
	return who
}
