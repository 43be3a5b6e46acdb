package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// AuthorizerOptions configure an Authorizer.
type AuthorizerOptions struct {
	// Disabled accepts requests without a token. It is safe only for a listener on the
	// loopback interface.
	Disabled bool
	// Tokens are mandatory unless Disabled is set. The token of agents may be empty.
	Tokens AccessTokens
	// Enroller finds an endpoint by its secret. If it is nil, no secret is accepted.
	Enroller *Enroller
	// Hosts are the names of this server, beside those of the loopback interface. They
	// are checked only if Disabled is set.
	Hosts []string
	// TrustedProxies are the networks of reverse proxies whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Failures limits wrong tokens; nil is a new FailureLimiter with the system's clock.
	Failures *FailureLimiter
}

// Authorizer identifies the caller of a request and checks the caller's role. It is safe
// for concurrent use.
type Authorizer struct {
	disabled bool
	hosts    []string
	tokens   atomic.Pointer[tokenDigests]
	enroller *Enroller
	origins  *http.CrossOriginProtection

	trustedProxies []netip.Prefix
	failures       *FailureLimiter
}

// tokenDigests are the digests of the access tokens.
type tokenDigests struct{ admin, agent [sha256.Size]byte }

// DeniedError explains why a request is refused.
type DeniedError struct {
	// Status is 401, 403, 429 after too many wrong tokens, or 503 while the database is
	// unavailable.
	Status int
	Detail string
	// Challenge is the WWW-Authenticate header; empty means none.
	Challenge string
	// RetryAfter is how long the client must wait after a 429.
	RetryAfter time.Duration
}

// Error returns the detail.
func (e *DeniedError) Error() string { return e.Detail }

// NewAuthorizer returns an Authorizer.
func NewAuthorizer(o AuthorizerOptions) (*Authorizer, error) {
	a := &Authorizer{
		disabled: o.Disabled, hosts: o.Hosts, enroller: o.Enroller, origins: http.NewCrossOriginProtection(),
		trustedProxies: o.TrustedProxies, failures: o.Failures,
	}
	if a.failures == nil {
		a.failures = NewFailureLimiter(time.Now)
	}
	if o.Disabled {
		return a, nil
	}
	return a, a.SetTokens(o.Tokens)
}

// SetTokens replaces the access tokens. Without a token of the agents, no agent is
// accepted by one. Streams that are open stay open.
func (a *Authorizer) SetTokens(t AccessTokens) error {
	if t.Admin == "" {
		return errors.New("auth: an access token is empty, which would admit every caller")
	}
	if t.Agent == "" {
		t.Agent = rand.Text() // nobody has it
	}
	a.tokens.Store(&tokenDigests{admin: sha256.Sum256([]byte(t.Admin)), agent: sha256.Sum256([]byte(t.Agent))})
	return nil
}

// Disabled reports whether requests need no token.
func (a *Authorizer) Disabled() bool { return a.disabled }

// Authorize returns the caller of a request, or a *DeniedError if the caller does
// not have the required role.
//
// A browser on the same machine reaches the loopback interface too. Pages of other
// sites must not use the API through it. A request that changes something must
// therefore come from a page of this server, or from no page at all. Without tokens,
// the Host header must be a name of this server, because a foreign name may resolve to
// the server's address (DNS rebinding).
func (a *Authorizer) Authorize(r *http.Request, required Role) (Caller, error) {
	if err := a.origins.Check(r); err != nil {
		return Caller{}, &DeniedError{Status: http.StatusForbidden, Detail: "requests from pages of other sites are refused"}
	}
	if a.disabled {
		return a.authorizeHost(r.Host, required)
	}
	caller, known, err := a.identify(r, required)
	var limited *DeniedError
	switch {
	case errors.As(err, &limited) && required > Anyone:
		return Caller{}, limited
	case err != nil && required > Anyone:
		return Caller{}, &DeniedError{Status: http.StatusServiceUnavailable, Detail: "the token cannot be checked while the database is unavailable; try again"}
	case caller.Role >= required:
		return caller, nil
	case known:
		return caller, &DeniedError{Status: http.StatusForbidden, Detail: "this call needs the admin token; the token of an agent is valid for agents' calls only"}
	case r.Header.Get("Authorization") != "":
		return caller, &DeniedError{
			Status: http.StatusUnauthorized, Challenge: `Bearer realm="tasker", error="invalid_token"`,
			Detail: "the Authorization header has no valid token; it must be 'Bearer' and the content of admin.token in the control plane's data_dir",
		}
	default:
		return caller, &DeniedError{
			Status: http.StatusUnauthorized, Challenge: `Bearer realm="tasker"`,
			Detail: "a token is needed: send the header 'Authorization: Bearer …' with the content of admin.token in the control plane's data_dir",
		}
	}
}

// authorizeHost authorizes a request without a token by its Host header.
func (a *Authorizer) authorizeHost(host string, required Role) (Caller, error) {
	switch {
	case a.isOwnHost(host):
		return Caller{Name: "local", Role: Admin}, nil
	case required == Anyone:
		return Caller{}, nil
	}
	return Caller{}, &DeniedError{
		Status: http.StatusForbidden,
		Detail: "without tokens the API accepts only localhost, a loopback address or the configured api.address as the host of a request",
	}
}

// isOwnHost reports whether host, with or without a port, is a name of this server.
func (a *Authorizer) isOwnHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return true
	}
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(a.hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// identify returns the owner of the request's token, and whether the token is known.
func (a *Authorizer) identify(r *http.Request, required Role) (caller Caller, known bool, err error) {
	token := BearerToken(r.Header.Get("Authorization"))
	if token == "" {
		return Caller{}, false, nil
	}
	// All digests have one length, so the comparison does not leak the token's length.
	sum, own := sha256.Sum256([]byte(token)), a.tokens.Load()
	isAdmin := subtle.ConstantTimeCompare(sum[:], own.admin[:])
	isAgent := subtle.ConstantTimeCompare(sum[:], own.agent[:])
	switch {
	case isAdmin == 1:
		return Caller{Name: "admin", Role: Admin}, true, nil
	case isAgent == 1:
		return Caller{Name: "agent", Role: Agent}, true, nil
	case required == Anyone && strings.HasPrefix(token, tasker.EnrolTokenPrefix):
		return Caller{}, false, nil // the enrolment checks it
	}
	address := a.ClientAddress(r)
	if err := a.Limit(address, token); err != nil {
		return Caller{}, false, err
	}
	endpoint, err := a.findEndpoint(r, token)
	switch {
	case errors.Is(err, ErrNotFound):
		a.failures.Failed(address, token)
		return Caller{}, false, nil
	case err != nil:
		return Caller{}, false, fmt.Errorf("find the owner of a token: %w", err)
	}
	a.failures.Accepted(token)
	return Caller{Name: endpoint, Role: Agent, Endpoint: endpoint}, true, nil
}

// findEndpoint returns the endpoint that a token is the secret of, or ErrNotFound.
func (a *Authorizer) findEndpoint(r *http.Request, token string) (string, error) {
	if a.enroller == nil || tasker.ValidateSecret(token) != nil {
		return "", ErrNotFound
	}
	return a.enroller.Identify(r.Context(), token)
}

// Limit returns a *DeniedError with the status 429 if the address has sent too many wrong
// tokens and this one was not right before.
func (a *Authorizer) Limit(address netip.Addr, token string) error {
	wait := a.failures.Wait(address, token)
	if wait <= 0 {
		return nil
	}
	return &DeniedError{
		Status: http.StatusTooManyRequests, RetryAfter: wait,
		Detail: "too many wrong tokens were sent from this address; try again later",
	}
}

// RecordEnrolment records whether an enrolment token was right.
func (a *Authorizer) RecordEnrolment(address netip.Addr, token string, accepted bool) {
	if accepted {
		a.failures.Accepted(token)
	} else {
		a.failures.Failed(address, token)
	}
}

// BearerToken returns the token of an Authorization header, or an empty string.
func BearerToken(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
