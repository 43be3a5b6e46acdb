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

// Options say what Initialize sets up.
type Options struct {
	// APIURL, Username and Password are those of the management API and of a
	// user with the tag administrator.
	APIURL, Username, Password string
	// URI is the control plane's: its user, password and vhost are made.
	URI string
	// Types are the configured task types.
	Types []tasker.TaskType
	// Reset deletes the vhost first, with everything in it.
	Reset bool
	// Log is told what was done.
	Log *slog.Logger
}

// Initialize makes the vhost, the control plane's user with its permissions,
// the exchanges and the queues of reports. What is there is left alone, unless
// Reset is set, so that it may be repeated. The password of a user that exists
// is never changed: if it is not the one in URI, that is an error.
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
	for _, step := range []func(context.Context) error{s.check, s.reset, s.makeVhost, s.makeUser, s.permit} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := rabbitmq.Declare(ctx, o.URI, o.Types); err != nil {
		if errors.Is(err, rabbitmq.ErrCredentials) && !s.made {
			return fmt.Errorf("%w; the user was there before, and its password is not changed here: correct the URI, or set it with: rabbitmqctl change_password %s NEW_PASSWORD", err, s.user)
		}
		return err
	}
	o.Log.Info("exchanges and queues are there", "vhost", s.vhost, "types", len(o.Types))
	return nil
}

// setup is one run of Initialize.
type setup struct {
	Options
	client                *Client
	user, password, vhost string
	// made: the user was not there before.
	made bool
}

// check finds out whether the superuser is one.
func (s *setup) check(ctx context.Context) error {
	var me struct{ Tags any }
	switch err := s.client.Call(ctx, http.MethodGet, nil, &me, "whoami"); {
	case errors.Is(err, ErrNotFound):
		return s.client.stranger("404 Not Found")
	case err != nil:
		return err
	}
	// A list; a text with commas before RabbitMQ 3.9.
	if !strings.Contains(fmt.Sprint(me.Tags), "administrator") {
		return fmt.Errorf("user %q of RabbitMQ's management API is no administrator; give it the tag with: rabbitmqctl set_user_tags %[1]s administrator", s.Username)
	}
	return nil
}

func (s *setup) reset(ctx context.Context) error {
	if !s.Reset {
		return nil
	}
	if s.vhost == "/" {
		return errors.New(`vhost "/" is not reset, because it may hold what is not tasker's: give tasker a vhost of its own, at the end of the URI of the message queue (amqp://…/tasker)`)
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

func (s *setup) makeVhost(ctx context.Context) error {
	err := s.client.Call(ctx, http.MethodGet, nil, nil, "vhosts", s.vhost)
	if errors.Is(err, ErrNotFound) {
		if err = s.client.Call(ctx, http.MethodPut, struct{}{}, nil, "vhosts", s.vhost); err == nil {
			s.Log.Info("vhost made", "vhost", s.vhost)
		}
	}
	if err != nil {
		return fmt.Errorf("make vhost %q: %w", s.vhost, err)
	}
	return nil
}

func (s *setup) makeUser(ctx context.Context) error {
	err := s.client.Call(ctx, http.MethodGet, nil, nil, "users", s.user)
	if errors.Is(err, ErrNotFound) {
		account := map[string]string{"password": s.password, "tags": ""}
		if err = s.client.Call(ctx, http.MethodPut, account, nil, "users", s.user); err == nil {
			s.made = true
			s.Log.Info("user made", "user", s.user)
		}
	}
	if err != nil {
		return fmt.Errorf("make user %q: %w", s.user, err)
	}
	return nil
}

// permit lets the user do everything in the vhost, which is tasker's own.
func (s *setup) permit(ctx context.Context) error {
	all := map[string]string{"configure": ".*", "write": ".*", "read": ".*"}
	if err := s.client.Call(ctx, http.MethodPut, all, nil, "permissions", s.vhost, s.user); err != nil {
		return fmt.Errorf("give user %q its permissions in vhost %q: %w", s.user, s.vhost, err)
	}
	return nil
}
