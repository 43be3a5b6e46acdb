// Package controlplane is the control plane as a whole. It connects the store, the
// components between store and transport, and the API.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/callback"
	"github.com/MatthiasWiesner/tasker/controlplane/collect"
	"github.com/MatthiasWiesner/tasker/controlplane/deadline"
	"github.com/MatthiasWiesner/tasker/controlplane/dispatch"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/gate"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// reportWait is how long it may take until a sent order without a report is shown as
// sent; under load it may take eight times as long.
const reportWait = 250 * time.Millisecond

// ControlPlane is a control plane. New makes one.
type ControlPlane struct {
	opts       Options
	log        *slog.Logger
	metrics    *metrics
	store      *store.Store
	watchers   *watch.Fanout
	keys       *signing.Keyring
	enroller   *auth.Enroller
	authorizer *auth.Authorizer
	api        *api.API
	dispatch   *dispatch.Dispatcher
	collect    *collect.Collector
	deadline   *deadline.Keeper
	gates      *gate.Checker
	rollout    *rollout.Engine
	callback   *callback.Caller
}

// New opens the database, waits for it if it is unavailable, migrates it and makes the
// components. Close closes the database.
func New(ctx context.Context, opts Options) (*ControlPlane, error) {
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	types := opts.taskTypes()
	c := &ControlPlane{opts: opts, log: opts.Log, watchers: watch.NewFanout(), metrics: newMetrics(opts.Registry, types)}
	var err error
	c.store, err = openStore(ctx, opts.Log, opts.Waiting, store.Options{
		URI: opts.DatabaseURI, DataDir: opts.DataDir, Types: types, Heartbeat: opts.Heartbeat, TrustAgentLabels: opts.TrustAgentLabels,
		OnCommit: c.onCommit,
	})
	if err != nil {
		return nil, err
	}
	if err := c.makeComponents(ctx); err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	return c, nil
}

// onCommit wakes the components that a commit concerns.
func (c *ControlPlane) onCommit(commit store.Commit) {
	c.watchers.Wake(commit.Tasks)
	if commit.Due {
		c.dispatch.Wake()
	}
	if commit.Rollouts {
		c.rollout.Wake()
	}
	if commit.Callbacks {
		c.callback.Wake()
	}
}

func (c *ControlPlane) makeComponents(ctx context.Context) error {
	o := c.opts
	o.Registry.MustRegister(&statistics{store: c.store, log: o.Log})
	callbackRules, err := urlrules.New("callbacks.allow", o.Callbacks)
	if err != nil {
		return err
	}
	gateRules, err := urlrules.New("gates.allow", o.Gates)
	if err != nil {
		return err
	}
	c.keys, err = signing.Open(ctx, signing.Options{Store: c.store, File: o.SigningKeyFile, Log: o.Log})
	if err != nil {
		return err
	}
	c.enroller = auth.NewEnroller(auth.EnrollerOptions{
		Store: c.store, Keys: c.keys.PublicKeys, Broker: o.Broker, Unsupported: o.Unsupported, Disconnect: o.Disconnect, Finished: c.finished, Log: o.Log,
	})
	if o.EndpointAuthorizer != nil {
		o.EndpointAuthorizer.SetEnroller(c.enroller)
	}
	c.makeTransportComponents()
	if c.gates, err = gate.New(o.Prometheus, gateRules.Check); err != nil {
		return err
	}
	c.rollout = rollout.New(rollout.Options{Store: c.store, Gates: c.gates, Log: o.Log, Finished: c.finished})
	c.callback = callback.New(callback.Options{
		Store: c.store, Key: callback.NewKey(c.keys.CallbackSecret()), Check: callbackRules.Check, Version: o.Version, Log: o.Log, Metrics: callback.NewMetrics(o.Registry),
	})
	return c.makeAPI(callbackRules, gateRules)
}

// makeTransportComponents makes the components that send orders and receive reports.
func (c *ControlPlane) makeTransportComponents() {
	o := c.opts
	hub := &signingHub{Hub: o.Hub, keys: c.keys}
	c.dispatch = dispatch.New(dispatch.Options{
		Outbox: c.store, Hub: hub, Log: o.Log, Metrics: dispatch.NewMetrics(o.Registry), ReportWait: reportWait,
	})
	c.collect = collect.New(collect.Options{
		Inbox: c.store, Hub: hub, Log: o.Log, Metrics: collect.NewMetrics(o.Registry), Reported: c.dispatch.Reported, Finished: c.finished,
	})
	c.deadline = deadline.New(deadline.Options{
		Store: c.store, IsDrained: c.collect.IsDrained, LostAfter: o.LostAfter, Log: o.Log, Finished: c.finished,
		IsBlocked: func() bool { return c.dispatch.IsFailing() || c.collect.IsBlocked() || !o.Transport.isConnected() },
	})
	o.Transport.setOnReconnect(c.deadline.Outage)
}

func (c *ControlPlane) makeAPI(callbacks, gates urlrules.Rules) error {
	o := c.opts
	authorization := auth.AuthorizerOptions{Disabled: !o.Auth, Enroller: c.enroller, TrustedProxies: o.TrustedProxies}
	var err error
	if o.Auth {
		if authorization.Tokens, err = auth.LoadAccessTokens(o.DataDir, o.AgentToken); err != nil {
			return err
		}
	}
	if c.authorizer, err = auth.NewAuthorizer(authorization); err != nil {
		return err
	}
	checks := map[string]func(context.Context) error{"database": c.store.Check, "signing_key": c.keys.Check}
	if o.Transport != nil {
		checks["message_queue"] = o.Transport.Check
	}
	c.api, err = api.New(api.Options{
		Store: c.store, Creator: c.dispatch, Types: o.Types, Watch: c.watchers, Authorizer: c.authorizer, Enroller: c.enroller,
		CertificateFingerprint: o.Fingerprint, Agents: o.Agents, Checks: checks, PromQL: o.Prometheus != "",
		CheckCallback: callbacks.Check, CheckGate: gates.Check, ReceiveTimeout: o.ReceiveTimeout, Version: o.Version, Log: o.Log,
		Registerer: o.Registry, Gatherer: o.Registry,
	})
	return err
}

// finished logs and counts tasks that have finished.
func (c *ControlPlane) finished(tasks []tasker.Task) {
	for _, t := range tasks {
		c.metrics.finished.WithLabelValues(t.Type, string(t.Status)).Inc()
		c.log.Info("task finished", "task", t.ID, "type", t.Type, "identifier", t.Identifier, "status", t.Status,
			"took", t.FinishedAt.Sub(t.CreatedAt).Round(time.Millisecond).String())
	}
}

// Reload reads the access tokens and the signing keys again. If the tokens are not valid,
// the old ones stay, and Reload logs the reason.
func (c *ControlPlane) Reload() {
	c.keys.Wake()
	if c.authorizer.Disabled() {
		return
	}
	tokens, err := auth.LoadAccessTokens(c.opts.DataDir, c.opts.AgentToken)
	if err == nil {
		err = c.authorizer.SetTokens(tokens)
	}
	if err != nil {
		c.log.Error("the access tokens were not reloaded; the old ones stay", "error", err)
	}
}

// IsAlive reports whether the dispatcher starts a round before ctx is done. It does while
// Run runs, also while the database is unavailable.
func (c *ControlPlane) IsAlive(ctx context.Context) bool { return c.dispatch.IsAlive(ctx) }

// Close closes the database.
func (c *ControlPlane) Close() error {
	c.gates.Close()
	return c.store.Close()
}
