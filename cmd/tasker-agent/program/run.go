package program

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

func run(ctx context.Context, c *config.Agent, version string, log *slog.Logger, extra []handlers.Handler) (err error) {
	plain := log // the agent adds its name itself
	log = log.With("endpoint", c.Endpoint)
	notify := sysservice.NewNotifier(log)
	defer context.AfterFunc(ctx, notify.Stopping)()
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
	address, stopMetrics, err := serveMetrics(c.Metrics, registry, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	metrics := agent.NewMetrics(registry)
	link, err := newLink(c, records.Instance(), observe(log, metrics, notify), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, link.Close()) }()
	a, err := agent.New(agent.Options{
		Endpoint: c.Endpoint, Version: version, Labels: c.Labels, MetricsAddress: address,
		Link: link, Journal: records, Handlers: mux,
		Leftovers:   process.Leftovers{Endpoint: c.Endpoint, Grace: c.KillGrace.D(), Log: log},
		Concurrency: c.Concurrency, KillGrace: c.KillGrace.D(), StopTimeout: c.StopTimeout.D(),
		Log: plain, Metrics: metrics,
		Started: notify.Ready,
	})
	if err != nil {
		return err
	}
	notify.Status("connecting to the control plane")
	defer notify.Watchdog(a.Alive)()
	return a.Run(ctx)
}

func newMux(c *config.Agent, log *slog.Logger, extra []handlers.Handler) (*handlers.Mux, error) {
	cgroup, err := process.CgroupRoot()
	if err != nil {
		log.Info("tasks run without a cgroup of their own", "reason", err)
	}
	all, err := builtin.New(builtin.Options{
		Allow: c.Handlers.Command.Allow, Scripts: c.Handlers.Script.Directory, Log: log,
		Units:  filepath.Join(c.DataDir, "units"),
		Runner: &process.Runner{Grace: c.KillGrace.D(), Cgroup: cgroup, Log: log},
	})
	if err != nil {
		return nil, err
	}
	return handlers.NewMux(append(all, extra...)...)
}

// newLink chooses the wire by the scheme of server.uri.
func newLink(c *config.Agent, instance string, observer transport.Observer, log *slog.Logger) (transport.Link, error) {
	if strings.HasPrefix(c.Server.URI.Scheme(), "amqp") {
		return rabbitmq.NewLink(rabbitmq.LinkOptions{
			URI: c.Server.URI.Reveal(), Endpoint: c.Endpoint, Instance: instance, Log: log, Observer: observer,
		})
	}
	trust, err := trusted(c.Server.CAFile)
	if err != nil {
		return nil, err
	}
	return httplink.NewLink(httplink.LinkOptions{
		URI: c.Server.URI.Reveal(), Endpoint: c.Endpoint, Instance: instance, TLS: trust, Log: log, Observer: observer,
		Token: func() (string, error) {
			token, err := c.Server.Token()
			return token.Reveal(), err
		},
	})
}

// trusted adds the certificates of a file to those of the system.
func trusted(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read server.ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read server.ca_file: %s holds no certificate in PEM", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// observe logs each change of the connection once, counts it and tells the
// service manager.
func observe(log *slog.Logger, metrics *agent.Metrics, notify *sysservice.Notifier) transport.Observer {
	said := ""
	return func(err error) {
		metrics.ObserveLink(err)
		switch {
		case err == nil:
			said = ""
			log.Info("connected to the control plane")
			notify.Status("connected to the control plane")
		case err.Error() != said:
			said = err.Error()
			log.Warn("not connected; trying again", "reason", err)
			notify.Status("not connected; trying again: " + said)
		}
	}
}

// serveMetrics shows the registry to Prometheus, and returns the address it is
// at. Port 0 shows nothing.
func serveMetrics(c config.Metrics, registry *prometheus.Registry, log *slog.Logger) (string, func(), error) {
	if c.Port == 0 {
		return "", func() {}, nil
	}
	address := net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("listen on metrics.address and metrics.port (0 turns the metrics off): %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	return address, func() {
		_ = server.Close()
		<-done
	}, nil
}
