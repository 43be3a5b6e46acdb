package agentcmd

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/MatthiasWiesner/tasker/config"
)

// serveMetrics serves the registry to Prometheus, and returns a function that stops it.
// With port 0 it does nothing.
func serveMetrics(c config.Metrics, registry *prometheus.Registry, log *slog.Logger) (func(), error) {
	if c.Port == 0 {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", c.ListenAddress())
	if err != nil {
		return nil, fmt.Errorf("listen on metrics.address and metrics.port (port 0 turns the metrics off): %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", metricsHandler(registry))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}

// metricsHandler serves the text format, which every version of Prometheus reads.
// promhttp supports further formats, but adds 300 KB to the program.
func metricsHandler(gatherer prometheus.Gatherer) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		families, err := gatherer.Gather()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
				return // the scraper has gone
			}
		}
	}
}
