package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// connect sets the options of the transport: RabbitMQ if it is configured, otherwise HTTP
// on the API's port. free closes what it opened.
func connect(c *config.ControlPlane, opts *controlplane.Options) (free func() error, err error) {
	opts.EndpointAuthorizer = auth.NewEndpointAuthorizer(opts.Auth, opts.AgentToken)
	if c.MessageQueue.URI == "" {
		hub := httplink.NewHub(httplink.HubOptions{
			Types: c.Types(), Heartbeat: c.API.Heartbeat.D(), Log: opts.Log, Metrics: httplink.NewMetrics(opts.Registry),
			Authorize: opts.EndpointAuthorizer.AuthorizeRequest, HasOwnCredential: auth.HasOwnCredential,
		})
		opts.Hub, opts.Agents, opts.Disconnect = hub, hub.Handler(), hub.Disconnect
		return hub.Close, nil
	}
	closeAccounts, tooFast := func() {}, func(string) {}
	if opts.Unsupported = c.RabbitMQ.APIURL == ""; !opts.Unsupported {
		client, err := management.NewAccounts(management.AccountOptions{
			APIURL: c.RabbitMQ.APIURL.Reveal(), Username: c.RabbitMQ.Username, Password: c.RabbitMQ.Password.Reveal(),
			URI: c.MessageQueue.URI.Reveal(), AgentsURI: c.MessageQueue.AgentsURI.Reveal(),
		})
		if err != nil {
			return nil, err
		}
		suspensions := management.NewSuspensions(client, opts.Log, 0)
		endLimits := applyLimits(client, opts.Log)
		opts.Broker, tooFast = accounts{client}, suspensions.Suspend
		closeAccounts = func() {
			endLimits()
			suspensions.Close()
			client.Close()
		}
	}
	opts.Transport = controlplane.NewTransportHealth(opts.Log)
	hub, err := rabbitmq.NewHub(rabbitmq.HubOptions{
		URI: c.MessageQueue.URI.Reveal(), Types: c.Types(), Log: opts.Log, Authorize: opts.EndpointAuthorizer.AuthorizeUser,
		AuthorizeShared: opts.EndpointAuthorizer.AuthorizeShared,
		TooFast:         tooFast, Observer: opts.Transport.Observe, Metrics: rabbitmq.NewMetrics(opts.Registry),
	})
	if err != nil {
		return nil, err
	}
	opts.Hub = hub
	return func() error {
		closeAccounts()
		return hub.Close()
	}, nil
}

// applyLimits limits what the agents' users may do at the broker, in the background. The
// returned function ends it.
func applyLimits(client *management.Accounts, log *slog.Logger) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		retry := backoff.Policy{First: time.Second, Cap: time.Minute}
		for tries := 0; ; tries++ {
			err := client.ApplyLimits(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			log.Warn("the limits of agents at RabbitMQ are not set yet; trying again", "tries", tries+1, "error", err)
			if retry.Sleep(ctx, tries) != nil {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// accounts manages the agents' RabbitMQ users and returns the errors of package auth.
type accounts struct{ *management.Accounts }

// CreateAccount implements auth.Broker.
func (a accounts) CreateAccount(ctx context.Context, endpoint, secret string) (string, error) {
	server, err := a.Accounts.CreateAccount(ctx, endpoint, secret)
	if errors.Is(err, management.ErrForeignUser) {
		err = fmt.Errorf("the name %s %w: %w", endpoint, auth.ErrTaken, err)
	}
	return server, err
}
