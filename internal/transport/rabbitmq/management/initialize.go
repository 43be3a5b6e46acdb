package management

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// Options configure Initialize.
type Options struct {
	// APIURL is the URL of the management API. Username and Password belong to a user with
	// the tag administrator.
	APIURL, Username, Password string
	// URI is the URI of the control plane: Initialize creates its user and vhost.
	URI string
	// Types are the configured task types.
	Types []tasker.TaskType
	// Reset deletes the vhost first, with everything in it.
	Reset bool
	// Log receives the completed steps.
	Log *slog.Logger
}

// Initialize creates the vhost, the control plane's user with its permissions, the exchanges
// and the queues of reports. It can be repeated: existing objects stay unchanged, unless
// Reset is set. It never changes the password of an existing user; a password that differs
// from the one in URI is an error.
func Initialize(ctx context.Context, o Options) error {
	uri, err := rabbitmq.ParseURI(o.URI)
	if err != nil {
		return err
	}
	client, err := NewClient(o.APIURL, o.Username, o.Password)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	s := setup{Options: o, client: client, user: uri.Username, password: uri.Password, vhost: uri.Vhost}
	for _, step := range []func(context.Context) error{s.check, s.reset, s.createVhost, s.createUser, s.grantPermissions, s.limitQueues} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := rabbitmq.Declare(ctx, o.URI, o.Types); err != nil {
		if errors.Is(err, rabbitmq.ErrCredentials) && !s.userCreated {
			return fmt.Errorf("%w; the user existed before, and its password is not changed: correct the URI, or set the password with: rabbitmqctl change_password %s NEW_PASSWORD", err, s.user)
		}
		return err
	}
	o.Log.Info("exchanges and queues are declared", "vhost", s.vhost, "types", len(o.Types))
	return nil
}

// setup is one run of Initialize.
type setup struct {
	Options
	client                *Client
	user, password, vhost string
	// userCreated is true if the user did not exist before.
	userCreated bool
}

// check returns an error unless the user is an administrator.
func (s *setup) check(ctx context.Context) error {
	var me struct{ Tags any }
	switch err := s.client.Call(ctx, http.MethodGet, nil, &me, "whoami"); {
	case errors.Is(err, ErrNotFound):
		return s.client.wrongServer("404 Not Found")
	case err != nil:
		return err
	}
	// Tags is a list; before RabbitMQ 3.9 it is a string with commas.
	if !strings.Contains(fmt.Sprint(me.Tags), "administrator") {
		return fmt.Errorf("user %q of RabbitMQ's management API is not an administrator; set the tag with: rabbitmqctl set_user_tags %[1]s administrator", s.Username)
	}
	return nil
}

func (s *setup) reset(ctx context.Context) error {
	if !s.Reset {
		return nil
	}
	if s.vhost == "/" {
		return errors.New(`vhost "/" is not reset, because it may contain objects of other programs: give tasker its own vhost, at the end of the URI of the message queue (amqp://…/tasker)`)
	}
	switch err := s.client.Call(ctx, http.MethodDelete, nil, nil, "vhosts", s.vhost); {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("delete vhost %q: %w", s.vhost, err)
	}
	s.Log.Info("vhost deleted", "vhost", s.vhost)
	return nil
}

func (s *setup) createVhost(ctx context.Context) error {
	err := s.client.Call(ctx, http.MethodGet, nil, nil, "vhosts", s.vhost)
	if errors.Is(err, ErrNotFound) {
		if err = s.client.Call(ctx, http.MethodPut, struct{}{}, nil, "vhosts", s.vhost); err == nil {
			s.Log.Info("vhost created", "vhost", s.vhost)
		}
	}
	if err != nil {
		return fmt.Errorf("create vhost %q: %w", s.vhost, err)
	}
	return nil
}

func (s *setup) createUser(ctx context.Context) error {
	err := s.client.Call(ctx, http.MethodGet, nil, nil, "users", s.user)
	if errors.Is(err, ErrNotFound) {
		account := map[string]string{"password": s.password, "tags": ""}
		if err = s.client.Call(ctx, http.MethodPut, account, nil, "users", s.user); err == nil {
			s.userCreated = true
			s.Log.Info("user created", "user", s.user)
		}
	}
	if err != nil {
		return fmt.Errorf("create user %q: %w", s.user, err)
	}
	return nil
}

// grantPermissions grants the user all permissions in the vhost.
func (s *setup) grantPermissions(ctx context.Context) error {
	all := map[string]string{"configure": ".*", "write": ".*", "read": ".*"}
	if err := s.client.Call(ctx, http.MethodPut, all, nil, "permissions", s.vhost, s.user); err != nil {
		return fmt.Errorf("give user %q its permissions in vhost %q: %w", s.user, s.vhost, err)
	}
	return nil
}

// limitQueues limits the queues of reports.
func (s *setup) limitQueues(ctx context.Context) error { return setPolicies(ctx, s.client, s.vhost) }
