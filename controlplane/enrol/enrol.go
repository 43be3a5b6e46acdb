package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The errors of this package, beside store.ErrUnavailable; match them with
// errors.Is. What they say is for people, and holds no secret.
var (
	// ErrToken: the enrolment token is unknown, revoked, expired or used up.
	ErrToken = store.ErrToken
	// ErrTaken: the name, or the secret, is another's.
	ErrTaken = store.ErrTaken
	// ErrRevoked: the endpoint, or its secret, was revoked.
	ErrRevoked = store.ErrRevoked
	// ErrNotFound: there is no such token, endpoint or secret.
	ErrNotFound = store.ErrNotFound
	// ErrInvalid: what was asked for is not allowed; asking again is of no use.
	ErrInvalid = errors.New("invalid")
	// ErrBroker: the message queue could not be told; repeating the call completes it.
	ErrBroker = errors.New("the message queue could not be told")
	// ErrUnsupported: agents use RabbitMQ, and the control plane may not manage it.
	ErrUnsupported = errors.New("enrolment is not possible: agents connect to RabbitMQ and the control plane has no access to its management API; set rabbitmq.apiurl, rabbitmq.username and rabbitmq.password in its configuration")
)

// Store is the part of the store that keeps tokens, credentials and the key.
type Store interface {
	CreateEnrolToken(ctx context.Context, t tasker.EnrolToken, digest store.Digest, ttl time.Duration) (tasker.EnrolToken, error)
	EnrolTokens(ctx context.Context, limit int) ([]tasker.EnrolToken, error)
	RevokeEnrolToken(ctx context.Context, id string) error
	Enrol(ctx context.Context, token store.Digest, endpoint string, secret store.Digest) (repeated bool, err error)
	RevokeEndpoint(ctx context.Context, endpoint, by string) ([]tasker.Task, error)
	Identify(ctx context.Context, digest store.Digest) (string, error)
	Credential(ctx context.Context, endpoint string) (store.Credential, error)
	SigningKey(ctx context.Context, offered [32]byte) ([]byte, error)
}

// Broker keeps the agents' accounts at the message queue.
type Broker interface {
	// Admit makes (or brings up to date) the endpoint's own user, with secret as its
	// password, that may read its own queue and report in its own name. It is
	// idempotent, and returns amqp(s)://HOST:PORT/VHOST for agents.
	Admit(ctx context.Context, endpoint, secret string) (server string, err error)
	// Expel deletes the user, which cuts its connections at once, and its queue. It
	// is idempotent.
	Expel(ctx context.Context, endpoint string) error
}

// Options say what a Service works with.
type Options struct {
	Store Store
	// Broker is nil where agents connect by HTTP.
	Broker Broker
	// Unsupported: agents connect to a message queue that cannot be managed, so
	// there is no Broker and no enrolment.
	Unsupported bool
	// Disconnect ends an endpoint's connection at once; it may be nil.
	Disconnect func(endpoint string)
	// Finished is told the tasks that a revoke ended; it may be nil, and must not
	// block.
	Finished func([]tasker.Task)
	Log      *slog.Logger
}

// Service enrols endpoints. It is safe for concurrent use, also by several control
// planes on one database.
type Service struct {
	opts Options
	key  ed25519.PrivateKey
}

// New reads the key that orders are signed with, and makes it the first time; all
// control planes on one database have the same.
func New(ctx context.Context, opts Options) (*Service, error) {
	var offered [ed25519.SeedSize]byte
	if _, err := rand.Read(offered[:]); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	seed, err := opts.Store.SigningKey(ctx, offered)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the signing key in the database has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	return &Service{opts: opts, key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Key is what orders are signed with.
func (s *Service) Key() ed25519.PrivateKey { return s.key }

// Enrol makes the request's secret that of its endpoint, for one use of the token.
// The same request again is no further use; repeated says so.
func (s *Service) Enrol(ctx context.Context, token string, req tasker.EnrolRequest) (e tasker.Enrolment, repeated bool, err error) {
	if err := tasker.ValidateEndpoint(req.Endpoint); err != nil {
		return e, false, fmt.Errorf("endpoint: %w: %w", ErrInvalid, err)
	}
	if err := tasker.ValidateSecret(req.Secret); err != nil {
		return e, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if s.opts.Unsupported {
		return e, false, ErrUnsupported
	}
	repeated, err = s.opts.Store.Enrol(ctx, digest(token), req.Endpoint, digest(req.Secret))
	if err != nil {
		if errors.Is(err, ErrTaken) {
			err = fmt.Errorf("%w; enrol under another name (--endpoint), or make this one free first: tasker endpoint revoke %s", err, req.Endpoint)
		}
		return e, false, err
	}
	e = tasker.Enrolment{Endpoint: req.Endpoint, Keys: [][]byte{s.public()}}
	if s.opts.Broker != nil {
		if e.Server, err = s.admit(ctx, req); err != nil {
			return tasker.Enrolment{}, repeated, err
		}
	}
	s.opts.Log.Info("endpoint enrolled", "endpoint", req.Endpoint, "repeated", repeated)
	return e, repeated, nil
}

// expelTimeout bounds what undoes an enrolment.
const expelTimeout = 10 * time.Second

// admit makes the account of an endpoint that is enrolled. It may have been revoked
// meanwhile, so it is looked at again afterwards.
func (s *Service) admit(ctx context.Context, req tasker.EnrolRequest) (server string, err error) {
	if server, err = s.opts.Broker.Admit(ctx, req.Endpoint, req.Secret); err != nil {
		if errors.Is(err, ErrTaken) {
			return "", err
		}
		return "", fmt.Errorf("endpoint %s: %w; repeat it: %w", req.Endpoint, ErrBroker, err)
	}
	owner, err := s.Identify(ctx, req.Secret)
	if err == nil && owner == req.Endpoint {
		return server, nil
	}
	// Also when in doubt: whoever is enrolled repeats the request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expelTimeout)
	defer cancel()
	if failed := s.expel(ctx, req.Endpoint); failed != nil {
		return "", errors.Join(err, failed)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	return "", fmt.Errorf("endpoint %s: %w while it was being enrolled", req.Endpoint, ErrRevoked)
}

// Revoke shuts the endpoint out, whether it was enrolled or not. ErrBroker and
// ErrUnsupported say that this is so here, but not at the message queue.
func (s *Service) Revoke(ctx context.Context, endpoint, by string) error {
	if tasker.ValidateEndpoint(endpoint) != nil {
		return ErrNotFound
	}
	finished, err := s.opts.Store.RevokeEndpoint(ctx, endpoint, by)
	if err != nil {
		return err
	}
	s.opts.Log.Info("endpoint revoked", "endpoint", endpoint, "by", by)
	if s.opts.Finished != nil && len(finished) > 0 {
		s.opts.Finished(finished)
	}
	if s.opts.Disconnect != nil {
		s.opts.Disconnect(endpoint)
	}
	switch {
	case s.opts.Unsupported:
		return fmt.Errorf("endpoint %s is revoked here, but its agent may stay connected to RabbitMQ: %w", endpoint, ErrUnsupported)
	case s.opts.Broker != nil:
		return s.expel(ctx, endpoint)
	}
	return nil
}

func (s *Service) expel(ctx context.Context, endpoint string) error {
	if err := s.opts.Broker.Expel(ctx, endpoint); err != nil {
		return fmt.Errorf("endpoint %s is revoked here, but %w; repeat it: %w", endpoint, ErrBroker, err)
	}
	return nil
}

func (s *Service) public() []byte { return []byte(s.key.Public().(ed25519.PublicKey)) } //nolint:errcheck // that is what it is

func digest(secret string) store.Digest { return sha256.Sum256([]byte(secret)) }
