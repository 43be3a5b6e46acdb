package agentcmd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

// run runs the agent until ctx is done.
func run(ctx context.Context, s *setup, version string, log *slog.Logger, extra []handlers.Handler) (err error) {
	notify := sysservice.NewNotifier(log)
	defer notify.StoppingWhenDone(ctx)()
	s, err = s.enrol(ctx, log, notify)
	switch {
	case ctx.Err() != nil:
		return nil // stopped while it was enrolling
	case err != nil:
		return err
	}
	c := s.config
	agentLog := log // the agent adds the endpoint itself
	log = log.With("endpoint", c.Endpoint)
	var keys []ed25519.PublicKey
	var storeKeys func([]ed25519.PublicKey) error
	if s.identity != nil {
		keys = s.identity.Keys
		storeKeys = func(keys []ed25519.PublicKey) error { return identity.StoreKeys(c.DataDir, keys) }
	}
	mux, err := newMux(c, log, extra)
	if err != nil {
		return err
	}
	records, err := journal.Open(c.DataDir, journal.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	stopMetrics, err := serveMetrics(c.Metrics, registry, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	metrics, connection := agent.NewMetrics(registry), agent.NewConnection()
	link, err := s.newLink(records.Instance(), newObserver(log, metrics, notify, connection), connection.Contested, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, link.Close()) }()
	a, err := agent.New(agent.Options{
		Endpoint: c.Endpoint, Version: version, Labels: c.Labels,
		MetricsAddress: (&advertiser{metrics: c.Metrics, server: c.Server.URI, log: log}).address,
		Link:           link, Journal: records, Handlers: mux, Keys: keys, StoreKeys: storeKeys,
		Leftovers:   process.Leftovers{Endpoint: c.Endpoint, Grace: c.KillGrace.D(), Log: log},
		Concurrency: c.Concurrency, KillGrace: c.KillGrace.D(), StopTimeout: c.StopTimeout.D(),
		Connection: connection, UnauthorizedTimeout: c.UnauthorizedTimeout.D(),
		Log: agentLog, Metrics: metrics,
		Started: notify.Ready,
	})
	if err != nil {
		return err
	}
	notify.Status("connecting to the control plane")
	defer notify.Watchdog(a.Alive)()
	return a.Run(ctx)
}

func allowedCommands(configured []config.AllowedCommand) []command.Entry {
	var entries []command.Entry
	for _, c := range configured {
		entries = append(entries, command.Entry{Argv: c.Argv, Env: c.Env, Cwd: c.Cwd, Stdin: bool(c.Stdin), Creates: c.Creates})
	}
	return entries
}

func newMux(c *config.Agent, log *slog.Logger, extra []handlers.Handler) (*handlers.Mux, error) {
	cgroup, err := process.FindCgroupRoot()
	if err != nil {
		log.Info("tasks share the cgroup of the agent", "reason", err)
	}
	all, err := builtin.New(builtin.Options{
		AllowCommands:   allowedCommands(c.Handlers.Command.Allow),
		AllowFiles:      c.Handlers.File.Allow,
		AllowPackages:   c.Handlers.Package.Allow,
		AllowServices:   c.Handlers.Service.Allow,
		AllowArtifacts:  c.Handlers.Artifact.Allow,
		ArtifactSources: c.Handlers.Artifact.Sources, ArtifactTokenFiles: c.Handlers.Artifact.TokenFiles,
		ScriptDir:   c.Handlers.Script.Directory,
		UnitDir:     filepath.Join(c.DataDir, "units"),
		SnapshotDir: filepath.Join(c.DataDir, "before"),
		Runner:      &process.Runner{Grace: c.KillGrace.D(), Cgroup: cgroup, Log: log},
		Log:         log,
	})
	if err != nil {
		return nil, err
	}
	return handlers.NewMux(append(all, extra...)...)
}
