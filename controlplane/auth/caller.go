package auth

import "context"

// Role is the set of calls that a caller may make; each role includes the roles before it.
type Role int

// The roles.
const (
	// Anyone may read the health of the control plane.
	Anyone Role = iota
	// Agent may fetch orders and send reports.
	Agent
	// Admin may do everything.
	Admin
)

// Caller is the sender of a request.
type Caller struct {
	// Name is shown to people and recorded with what the caller changes.
	Name string
	Role Role
	// Endpoint is set if the caller has sent the secret of an endpoint. The caller may
	// then act for this endpoint only.
	Endpoint string
}

type callerKey struct{}

// WithCaller returns a context that carries the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that ctx carries, or the zero Caller.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
