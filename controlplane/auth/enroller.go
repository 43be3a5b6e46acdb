package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The errors of an Enroller, beside store.ErrUnavailable; match them with errors.Is.
// Their texts are shown to users and contain no secret.
var (
	// ErrToken: the enrolment token is unknown, revoked, expired or used up.
	ErrToken = store.ErrToken
	// ErrTaken: another endpoint has the name or the secret.
	ErrTaken = store.ErrTaken
	// ErrRevoked: the endpoint, or its secret, is revoked.
	ErrRevoked = store.ErrRevoked
	// ErrNotFound: the token, endpoint or secret does not exist.
	ErrNotFound = store.ErrNotFound
	// ErrInvalid: the request is not valid; repeating it does not help.
	ErrInvalid = errors.New("invalid")
	// ErrBroker: the message queue was not updated; repeating the call completes it.
	ErrBroker = errors.New("the message queue could not be updated")
	// ErrUnsupported: agents use RabbitMQ, and the control plane cannot manage it.
	ErrUnsupported = errors.New("enrolment is not possible: agents connect to RabbitMQ and the control plane has no access to its management API; set rabbitmq.apiurl, rabbitmq.username and rabbitmq.password in its configuration")
)

// Store keeps enrolment tokens and credentials of endpoints.
type Store interface {
	CreateEnrolToken(ctx context.Context, t tasker.EnrolToken, digest store.Digest, ttl time.Duration) (tasker.EnrolToken, error)
	EnrolTokens(ctx context.Context, limit int) ([]tasker.EnrolToken, error)
	RevokeEnrolToken(ctx context.Context, id string) error
	Enrol(ctx context.Context, token store.Digest, endpoint string, secret store.Digest) (repeated bool, err error)
	RevokeEndpoint(ctx context.Context, endpoint, by string) ([]tasker.Task, error)
	Identify(ctx context.Context, digest store.Digest) (string, error)
	Credential(ctx context.Context, endpoint string) (store.Credential, error)
	Credentials(ctx context.Context, endpoints []string) (map[string]store.Credential, error)
}

// Broker manages the agents' accounts at the message queue.
type Broker interface {
	// CreateAccount creates or updates the endpoint's own user, with secret as its
	// password. The user may read its own queue and report in its own name. CreateAccount
	// is idempotent, and returns amqp(s)://HOST:PORT/VHOST for agents.
	CreateAccount(ctx context.Context, endpoint, secret string) (server string, err error)
	// DeleteAccount deletes the user, which closes its connections at once, and its queue. It
	// is idempotent.
	DeleteAccount(ctx context.Context, endpoint string) error
}

// EnrollerOptions configure an Enroller.
type EnrollerOptions struct {
	Store Store
	// Keys returns the public keys that verify orders, oldest first.
	Keys func() [][]byte
	// Broker is nil if agents connect by HTTP.
	Broker Broker
	// Unsupported is set if agents connect to a message queue that cannot be managed.
	// Then there is no Broker and no enrolment.
	Unsupported bool
	// Disconnect closes an endpoint's connection at once; it may be nil.
	Disconnect func(endpoint string)
	// Finished receives the tasks that a revocation ended; it may be nil, and must not
	// block.
	Finished func([]tasker.Task)
	Log      *slog.Logger
}

// Enroller enrols and revokes endpoints. It is safe for concurrent use, also by several
// control planes on one database.
type Enroller struct{ opts EnrollerOptions }

// NewEnroller returns an Enroller.
func NewEnroller(opts EnrollerOptions) *Enroller { return &Enroller{opts} }

// Enrol stores the secret of the request's endpoint, which counts as one use of the
// token. The same request again is not counted; repeated reports this.
func (e *Enroller) Enrol(ctx context.Context, token string, req tasker.EnrolRequest) (enrolment tasker.Enrolment, repeated bool, err error) {
	if err := tasker.ValidateEndpoint(req.Endpoint); err != nil {
		return enrolment, false, fmt.Errorf("endpoint: %w: %w", ErrInvalid, err)
	}
	if err := tasker.ValidateSecret(req.Secret); err != nil {
		return enrolment, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if e.opts.Unsupported {
		return enrolment, false, ErrUnsupported
	}
	repeated, err = e.opts.Store.Enrol(ctx, digest(token), req.Endpoint, digest(req.Secret))
	if err != nil {
		if errors.Is(err, ErrTaken) {
			err = fmt.Errorf("%w; enrol under another name (--endpoint), or make this one free first: tasker endpoint revoke %s, and then create a new token", err, req.Endpoint)
		}
		return enrolment, false, err
	}
	enrolment = tasker.Enrolment{Endpoint: req.Endpoint, Keys: e.opts.Keys()}
	if e.opts.Broker != nil {
		if enrolment.Server, err = e.createAccount(ctx, req); err != nil {
			return tasker.Enrolment{}, repeated, err
		}
	}
	e.opts.Log.Info("endpoint enrolled", "endpoint", req.Endpoint, "repeated", repeated)
	return enrolment, repeated, nil
}

// deleteTimeout bounds the removal of an account after a failed enrolment.
const deleteTimeout = 10 * time.Second

// createAccount creates the broker account of an enrolled endpoint. The endpoint may be
// revoked meanwhile, so createAccount checks it again afterwards.
func (e *Enroller) createAccount(ctx context.Context, req tasker.EnrolRequest) (server string, err error) {
	if server, err = e.opts.Broker.CreateAccount(ctx, req.Endpoint, req.Secret); err != nil {
		if errors.Is(err, ErrTaken) {
			return "", err
		}
		return "", fmt.Errorf("endpoint %s: %w; repeat the request: %w", req.Endpoint, ErrBroker, err)
	}
	owner, err := e.Identify(ctx, req.Secret)
	if err == nil && owner == req.Endpoint {
		return server, nil
	}
	// An error leaves it open whether the endpoint is still enrolled. The account is
	// deleted then too: an endpoint that is enrolled repeats the request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if deleteErr := e.deleteAccount(ctx, req.Endpoint); deleteErr != nil {
		return "", errors.Join(err, deleteErr)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	return "", fmt.Errorf("endpoint %s: %w during its enrolment", req.Endpoint, ErrRevoked)
}

// Revoke refuses the endpoint from now on, whether it is enrolled or not. ErrBroker and
// ErrUnsupported mean that it is revoked in the store, but not at the message queue.
func (e *Enroller) Revoke(ctx context.Context, endpoint, by string) error {
	if tasker.ValidateEndpoint(endpoint) != nil {
		return ErrNotFound
	}
	finished, err := e.opts.Store.RevokeEndpoint(ctx, endpoint, by)
	if err != nil {
		return err
	}
	e.opts.Log.Info("endpoint revoked", "endpoint", endpoint, "by", by)
	if e.opts.Finished != nil && len(finished) > 0 {
		e.opts.Finished(finished)
	}
	if e.opts.Disconnect != nil {
		e.opts.Disconnect(endpoint)
	}
	switch {
	case e.opts.Unsupported:
		return fmt.Errorf("endpoint %s is revoked here, but its agent may stay connected to RabbitMQ: %w", endpoint, ErrUnsupported)
	case e.opts.Broker != nil:
		return e.deleteAccount(ctx, endpoint)
	}
	return nil
}

func (e *Enroller) deleteAccount(ctx context.Context, endpoint string) error {
	if err := e.opts.Broker.DeleteAccount(ctx, endpoint); err != nil {
		return fmt.Errorf("endpoint %s is revoked here, but %w; repeat the call: %w", endpoint, ErrBroker, err)
	}
	return nil
}

func digest(text string) store.Digest { return sha256.Sum256([]byte(text)) }
