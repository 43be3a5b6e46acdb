// Package controlplane puts the control plane together: the store, the loops
// between it and the transport, and the API in front.
package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/callback"
	"github.com/MatthiasWiesner/tasker/controlplane/collect"
	"github.com/MatthiasWiesner/tasker/controlplane/deadline"
	"github.com/MatthiasWiesner/tasker/controlplane/dispatch"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/gate"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Options say what a ControlPlane is and works with.
type Options struct {
	Version string
	// Types are the configured task types, as the API shows them.
	Types []api.TaskType
	// DatabaseURI is as in store.Options, relative to DataDir.
	DatabaseURI string
	DataDir     string

	// Hub is the caller's to close, after Run.
	Hub transport.Hub
	// Agents answers the agents' calls, where they connect to the API; or nil.
	Agents http.Handler
	// Transport is how the hub stands now; nil where it cannot be away.
	Transport *Standing

	// EndpointAuthorizer is what the hub authorizes agents with; or nil.
	EndpointAuthorizer *auth.EndpointAuthorizer
	// Broker, Unsupported and Disconnect are as in auth.EnrollerOptions.
	Broker      auth.Broker
	Unsupported bool
	Disconnect  func(endpoint string)

	// Address is the host:port of the API; Auth says whether it asks for tokens.
	Address string
	Auth    bool
	TLS     *tls.Config
	// Fingerprint is that of a certificate of TLS that the control plane has made
	// itself, else empty.
	Fingerprint string

	// Prometheus is the URI of the one that the gates of rollouts may ask; empty is none.
	Prometheus string

	// Callbacks and Gates are below which URLs a callback and the URL of a gate may be;
	// see urlrules.New.
	Callbacks, Gates []string

	ReceiveTimeout time.Duration
	LostAfter      time.Duration
	Heartbeat      time.Duration

	Log      *slog.Logger
	Registry *prometheus.Registry
	// Listening is told the API's address when it answers; it may be nil.
	Listening func(net.Addr)
	// Waiting is told, at each try, why New has to wait; it may be nil.
	Waiting func(error)
}

// stopTimeout is how long requests under way may take to end at a stop.
const stopTimeout = 10 * time.Second

// idleTimeout is for how long a connection without a request is kept. Agents of a large
// fleet report every few minutes, and give theirs up sooner themselves.
const idleTimeout = 5 * time.Minute

// markPatience is how long it may take until an order that was sent, and not
// reported on before, is shown as sent; under load it may be eight times as long.
const markPatience = 250 * time.Millisecond

// ControlPlane is made by New.
type ControlPlane struct {
	opts     Options
	log      *slog.Logger
	store    *store.Store
	enroller *auth.Enroller
	api      *api.API
	dispatch *dispatch.Dispatcher
	collect  *collect.Collector
	deadline *deadline.Keeper
	gates    *gate.Keeper
	rollout  *rollout.Engine
	callback *callback.Caller
}

// New opens the database, waiting for one that is away, brings its tables up to
// date and makes everything else. Close frees it.
func New(ctx context.Context, opts Options) (*ControlPlane, error) {
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	c := &ControlPlane{opts: opts, log: opts.Log}
	watchers := watch.NewFanout()
	types := make([]tasker.TaskType, 0, len(opts.Types))
	for _, t := range opts.Types {
		types = append(types, tasker.TaskType{Name: t.Name, Handler: t.Handler, Timeout: t.Timeout})
	}
	finished := newMetrics(opts.Registry, types)
	var err error
	c.store, err = openStore(ctx, opts.Log, opts.Waiting, store.Options{
		URI: opts.DatabaseURI, DataDir: opts.DataDir, Types: types, Heartbeat: opts.Heartbeat,
		OnCommit: func(change store.Commit) {
			watchers.Publish(change.Tasks)
			if len(change.Claims) > 0 {
				c.dispatch.Hand(change.Claims)
			}
			if change.Due {
				c.dispatch.Wake()
			}
			if change.Rollouts {
				c.rollout.Wake()
			}
			if change.Callbacks {
				c.callback.Wake()
			}
		},
		Sends:        func(orders int) bool { return c.dispatch.Takes(orders) },
		MarkPatience: markPatience,
	})
	if err != nil {
		return nil, err
	}
	opts.Registry.MustRegister(&statistics{store: c.store, log: opts.Log})
	done := func(tasks []tasker.Task) { c.finished(finished, tasks) }
	c.enroller, err = auth.NewEnroller(ctx, auth.EnrollerOptions{
		Store: c.store, Broker: opts.Broker, Unsupported: opts.Unsupported, Disconnect: opts.Disconnect, Finished: done, Log: opts.Log,
	})
	if err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	if opts.EndpointAuthorizer != nil {
		opts.EndpointAuthorizer.SetEnroller(c.enroller)
	}
	hub := &signing{Hub: opts.Hub, key: c.enroller.Key()}
	c.dispatch = dispatch.New(dispatch.Options{
		Outbox: c.store, Hub: hub, Log: opts.Log, Metrics: dispatch.NewMetrics(opts.Registry),
	})
	c.collect = collect.New(collect.Options{
		Sink: c.store, Hub: hub, Log: opts.Log, Metrics: collect.NewMetrics(opts.Registry), Finished: done,
	})
	callbacks, err := urlrules.New("callbacks.allow", opts.Callbacks)
	if err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	gates, err := urlrules.New("gates.allow", opts.Gates)
	if err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	if c.gates, err = gate.New(opts.Prometheus, gates.Check); err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	c.rollout = rollout.New(rollout.Options{Plans: c.store, Gates: c.gates, Log: opts.Log, Finished: done})
	keep := deadline.Options{
		Facts: c.store, Drained: c.collect.Drained, LostAfter: opts.LostAfter, Log: opts.Log, Finished: done,
	}
	keep.Away = func() bool {
		return c.dispatch.Failing() || c.collect.Held() || opts.Transport != nil && opts.Transport.Check(ctx) != nil
	}
	c.deadline = deadline.New(keep)
	if opts.Transport != nil {
		opts.Transport.onReturn(c.deadline.Outage)
	}
	key, err := callback.LoadKey(ctx, c.store)
	if err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	c.callback = callback.New(callback.Options{
		Calls: c.store, Key: key, Allowed: callbacks.Check, Version: opts.Version, Log: opts.Log, Metrics: callback.NewMetrics(opts.Registry),
	})
	if c.api, err = newAPI(opts, c.store, c.enroller, callbacks, gates, watchers); err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	return c, nil
}

// newAPI makes the API with its tokens and its checks.
func newAPI(opts Options, s *store.Store, enroller *auth.Enroller, callbacks, gates urlrules.Rules, watchers *watch.Fanout) (*api.API, error) {
	authorizing := auth.AuthorizerOptions{Disabled: !opts.Auth, Enroller: enroller}
	if opts.Auth {
		var err error
		if authorizing.Tokens, err = auth.LoadAccessTokens(opts.DataDir); err != nil {
			return nil, err
		}
	}
	authorizer, err := auth.NewAuthorizer(authorizing)
	if err != nil {
		return nil, err
	}
	checks := map[string]func(context.Context) error{"database": s.Check}
	if opts.Transport != nil {
		checks["message_queue"] = opts.Transport.Check
	}
	return api.New(api.Options{
		Store: s, Types: opts.Types, Watch: watchers, Authorizer: authorizer, Enroller: enroller, Fingerprint: opts.Fingerprint, Agents: opts.Agents, Checks: checks,
		PromQL: opts.Prometheus != "", CheckCallback: callbacks.Check, CheckGate: gates.Check, ReceiveTimeout: opts.ReceiveTimeout, Version: opts.Version, Log: opts.Log,
		Registerer: opts.Registry, Gatherer: opts.Registry,
	})
}

// Alive says whether orders are dispatched: whether the loop comes round before
// ctx is done. It holds while Run runs, also while the database is away.
func (c *ControlPlane) Alive(ctx context.Context) bool { return c.dispatch.Alive(ctx) }

// Close closes the database.
func (c *ControlPlane) Close() error {
	c.gates.Close()
	return c.store.Close()
}

// Run serves until ctx is done, then stops in an order in which nothing is lost:
// no new requests, no new orders, the reports under way stored. It returns nil
// after such a stop.
func (c *ControlPlane) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", c.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on api.address and api.port: %w", err)
	}
	if c.opts.TLS != nil {
		listener = tls.NewListener(listener, c.opts.TLS)
	}
	if err := c.store.ReleaseClaims(ctx); err != nil {
		c.log.Warn("what a control plane that ended was about to send goes out only after a while", "after", store.ClaimHold, "error", err)
	}
	// The loops outlive ctx until the requests under way have ended.
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	failed := make(chan error, 6)
	running := 0
	spawn := func(what string, run func(context.Context) error) {
		running++
		go func() {
			if err := run(loops); err != nil && loops.Err() == nil {
				err = fmt.Errorf("%s ended: %w", what, err)
				failed <- err
				return
			}
			failed <- nil
		}()
	}
	spawn("dispatch", c.dispatch.Run)
	spawn("collect", c.collect.Run)
	spawn("deadline", c.deadline.Run)
	spawn("rollout", c.rollout.Run)
	spawn("callback", c.callback.Run)

	server := &http.Server{
		Handler: c.api, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(c.api.Drain)
	spawn("the API", func(context.Context) error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	c.log.Info("control plane started", "version", c.opts.Version, "address", listener.Addr().String(), "auth", c.opts.Auth)
	if c.opts.Listening != nil {
		c.opts.Listening(listener.Addr())
	}

	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	c.log.Info("control plane is stopping")
	return errors.Join(err, c.stop(server, stopLoops, failed, running))
}

// stop ends the server, then the loops, and waits for them.
func (c *ControlPlane) stop(server *http.Server, stopLoops func(), failed <-chan error, running int) error {
	grace, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	// The agents' streams end with the hub; closing it here lets the server stop.
	closed := make(chan error, 1)
	go func() { closed <- c.opts.Hub.Close() }()
	if err := server.Shutdown(grace); err != nil {
		c.log.Warn("requests under way were cut off", "error", err)
		_ = server.Close()
	}
	stopLoops()
	err := <-closed
	for ; running > 0; running-- {
		if e := <-failed; !errors.Is(e, transport.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// finished logs and counts tasks that have ended.
func (c *ControlPlane) finished(m *metrics, tasks []tasker.Task) {
	for _, t := range tasks {
		m.finished.WithLabelValues(t.Type, string(t.Status)).Inc()
		c.log.Info("task finished", "task", t.ID, "type", t.Type, "identifier", t.Identifier, "status", t.Status,
			"took", t.FinishedAt.Sub(t.CreatedAt).Round(time.Millisecond).String())
	}
}
