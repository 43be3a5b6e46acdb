package tasker

import (
	"errors"
	"strings"
	"time"
)

// EnrolToken permits servers to enrol: each use gives one endpoint its own credential. The
// token is valid until it expires, is used up or is revoked.
type EnrolToken struct {
	ID        string     `json:"id" doc:"Names the token, to revoke it."`
	CreatedAt time.Time  `json:"created_at" doc:"When the token was created."`
	CreatedBy string     `json:"created_by" doc:"Who created the token."`
	ExpiresAt time.Time  `json:"expires_at" doc:"When the token expires."`
	MaxUses   int        `json:"max_uses" doc:"How many endpoints can enrol with the token."`
	Uses      int        `json:"uses" doc:"How many endpoints have enrolled with the token."`
	RevokedAt *time.Time `json:"revoked_at,omitempty" doc:"When the token was revoked; absent if it was not."`
	// Labels become the bound labels of each endpoint that enrols with the token.
	Labels map[string]string `json:"labels,omitempty" doc:"The labels of the endpoints that enrol with the token; absent if there are none."`
	// Token is the secret. Only the answer to the creation contains it; the control
	// plane stores its SHA-256.
	Token string `json:"token,omitempty" doc:"The secret. Only the answer to the creation contains it."`
}

// EnrolTokenPrefix begins each token, so that secret scanners recognise it.
const EnrolTokenPrefix = "tasker-enrol-"

// EnrolRequest is the body of POST /enrol. The bearer token of the request is an
// enrolment token.
type EnrolRequest struct {
	Endpoint string `json:"endpoint" doc:"The name of the endpoint to enrol."`
	// Secret is the credential that the server has chosen; see ValidateSecret. Because
	// the server chooses it, the server can repeat a request whose answer was lost: the
	// same name with the same secret is the same enrolment and uses the token once.
	Secret string `json:"secret" doc:"The secret that the server has chosen: 43 to 128 characters of base64url."`
}

// Enrolment is the response to an EnrolRequest.
type Enrolment struct {
	Endpoint string `json:"endpoint" doc:"The name of the endpoint."`
	// Server is the server that the agent connects to. If it is empty, the agent
	// connects to the control plane, with the secret as its bearer token. Otherwise it
	// is amqp(s)://HOST:PORT/VHOST; the user name is the name of the endpoint, and the
	// password is the secret.
	Server string `json:"server,omitempty" doc:"The server that the agent connects to, with the name of the endpoint as the user and its secret as the password; absent if the agent connects to this control plane."`
	// Keys are Ed25519 public keys of 32 bytes each. Every order is signed with one of
	// the corresponding private keys.
	Keys [][]byte `json:"keys" doc:"Ed25519 public keys in base64. Every order is signed with one of them."`
}

// ValidateSecret returns an error unless an endpoint's secret has 43 to 128 characters
// of base64url (RFC 4648, section 5). 32 random bytes make 43 characters.
func ValidateSecret(secret string) error {
	if len(secret) < 43 || len(secret) > 128 || strings.ContainsFunc(secret, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("secret: it must have 43 to 128 characters of a-z, A-Z, 0-9, '-' and '_', for example 32 random bytes in base64url")
	}
	return nil
}
