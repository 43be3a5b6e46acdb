package tasker

import (
	"errors"
	"strings"
	"time"
)

// EnrolToken lets servers enrol: each use makes one endpoint a credential of its
// own, until the token expires, is used up or is revoked.
type EnrolToken struct {
	ID        string    `json:"id" doc:"Names the token, to revoke it."`
	CreatedAt time.Time `json:"created_at" doc:"When the token was created."`
	CreatedBy string    `json:"created_by" doc:"Who created the token."`
	ExpiresAt time.Time `json:"expires_at" doc:"When the token expires."`
	// MaxUses is how many endpoints it is good for, Uses for how many it was used.
	MaxUses   int        `json:"max_uses" doc:"How many endpoints can enrol with the token."`
	Uses      int        `json:"uses" doc:"How many endpoints have enrolled with the token."`
	RevokedAt *time.Time `json:"revoked_at,omitempty" doc:"When the token was revoked; absent if it was not."`
	// Token is the secret itself. It is in the answer to its creation only; the
	// control plane keeps no more than its SHA-256.
	Token string `json:"token,omitempty" doc:"The secret. Only the answer to the creation contains it."`
}

// EnrolTokenPrefix tells people, and scanners for secrets, what a token is.
const EnrolTokenPrefix = "tasker-enrol-"

// EnrolRequest is what a server that wants to enrol POSTs to /enrol, with an
// enrolment token as its bearer token.
type EnrolRequest struct {
	Endpoint string `json:"endpoint" doc:"The name of the endpoint to enrol."`
	// Secret is the credential that the server has chosen and keeps; see
	// ValidateSecret. Because the server chooses it, a request whose answer was
	// lost can be repeated: the same name with the same secret is the same
	// enrolment, and is no further use of the token.
	Secret string `json:"secret" doc:"The secret that the server has chosen: 43 to 128 characters of base64url."`
}

// Enrolment is the answer to an EnrolRequest.
type Enrolment struct {
	Endpoint string `json:"endpoint" doc:"The name of the endpoint."`
	// Server is where the agent connects to. Empty: where it has enrolled, with
	// the secret as its bearer token. Else amqp(s)://HOST:PORT/VHOST, to which it
	// connects as the user named as the endpoint, with the secret as its password.
	Server string `json:"server,omitempty" doc:"The server that the agent connects to, with the name of the endpoint as the user and its secret as the password; absent if the agent connects to this control plane."`
	// Keys are Ed25519 public keys, of 32 bytes each; every order is signed with
	// the other half of one of them.
	Keys [][]byte `json:"keys" doc:"Ed25519 public keys in base64. Every order is signed with one of them."`
}

// ValidateSecret says what is wrong with an endpoint's secret, or nil: it has 43 to
// 128 characters of base64url (RFC 4648, section 5), as 32 random bytes make.
func ValidateSecret(secret string) error {
	if len(secret) < 43 || len(secret) > 128 || strings.ContainsFunc(secret, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("secret: it has 43 to 128 characters of a-z, A-Z, 0-9, '-' and '_', as 32 random bytes in base64url do")
	}
	return nil
}
