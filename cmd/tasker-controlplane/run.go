package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

func runCommand(src *config.Source) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the control plane until it is stopped", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hangups := daemon.CatchHangups(cmd.Context())
			c, file, err := load(src)
			if err != nil {
				return err
			}
			log, level := daemon.NewLeveledLogger(c.Log, os.Stderr)
			log.Info("configuration read", "file", file, "database", c.Database.URI.String(), "message_queue", c.MessageQueue.URI.String())
			err = run(cmd.Context(), c, log, &reloader{src: src, log: log, level: level, hangups: hangups})
			if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // stopped while it was waiting
			}
			return daemon.Failed(err)
		},
	}
}

func run(ctx context.Context, c *config.ControlPlane, log *slog.Logger, reload *reloader) (err error) {
	types, err := apiTypes(c)
	if err != nil {
		return err
	}
	notify := sysservice.NewNotifier(log)
	defer notify.StoppingWhenDone(ctx)()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	opts := controlplane.Options{
		Version: version, Types: types, DatabaseURI: c.Database.URI.Reveal(), DataDir: c.DataDir, SigningKeyFile: c.SigningKeyFile(),
		Address: net.JoinHostPort(c.API.Address, strconv.Itoa(c.API.Port)), Auth: bool(c.API.Auth), TrustedProxies: c.API.Proxies(), AgentToken: bool(c.API.AgentToken),
		ReceiveTimeout: c.API.WaitForEndpointsTimeout.D(), LostAfter: c.API.LostAfter.D(), Heartbeat: c.API.Heartbeat.D(),
		Prometheus: c.Prometheus.URI.Reveal(), Callbacks: c.Callbacks.Allow, Gates: c.Gates.Allow, TrustAgentLabels: bool(c.Endpoints.TrustAgentLabels),
		Log: log, Registry: registry,
		Listening: func(address net.Addr) {
			if err := writeURL(c, address, c.API.TLS.HasFiles() || c.API.SelfCertified()); err != nil {
				log.Warn("the command line on this machine needs TASKER_URL", "error", err)
			}
			notify.Ready()
			notify.Status("API at " + address.String())
		},
		Waiting: func(reason error) { notify.Waiting("the database: " + reason.Error()) },
	}
	secure, err := newHTTPS(c, log)
	if err != nil {
		return err
	}
	opts.TLS, opts.Fingerprint = secure.config, secure.fingerprint
	registry.MustRegister(secure.expiryMetric())
	defer secure.run()()
	defer reload.start(secure.reload)()
	free, err := connect(c, &opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, free()) }()
	plane, err := controlplane.New(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	reload.add(plane.Reload)
	defer notify.Watchdog(plane.IsAlive)()
	return plane.Run(ctx)
}

// apiTypes returns the configured types with the description and the schema of their
// handlers. A handler that is not built in may be able to undo.
func apiTypes(c *config.ControlPlane) ([]api.TaskType, error) {
	infos := map[string]handlers.Info{}
	for _, info := range builtin.Infos() {
		infos[info.Name] = info
	}
	var types []api.TaskType
	for i, t := range c.Types() {
		info := infos[t.Handler]
		at := api.TaskType{Name: t.Name, Handler: t.Handler, Summary: info.Summary, Schema: info.Schema, Timeout: t.Timeout}
		if at.Labels = c.TaskTypes[i].Labels; at.Labels != "" {
			var err error
			if at.Selector, err = tasker.ParseSelector(at.Labels); err != nil {
				return nil, fmt.Errorf("labels of task type %s: %w", t.Name, err)
			}
		}
		_, known := infos[t.Handler]
		at.CanUndo, at.UndoRequires = info.CanUndo || !known, info.UndoRequires
		if info.Schema != nil {
			var err error
			if at.Validate, err = info.Validator(); err != nil {
				return nil, err
			}
		}
		types = append(types, at)
	}
	return types, nil
}

func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tasker_controlplane_build_info", Help: "Always 1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
}
