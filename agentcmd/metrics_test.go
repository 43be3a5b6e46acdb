package agentcmd

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// failingCollector collects an error.
type failingCollector struct{}

func (failingCollector) Describe(chan<- *prometheus.Desc) {}

func (failingCollector) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(prometheus.NewDesc("depth", "How deep.", nil, nil), errors.New("out of order"))
}

func TestMetricsHandler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "depth", Help: "How deep."})
	registry.MustRegister(gauge)
	gauge.Set(7)
	failing := prometheus.NewRegistry()
	failing.MustRegister(failingCollector{})
	tests := []struct {
		name     string
		gatherer prometheus.Gatherer
		code     int
		// Prometheus 3 rejects a response without a content type.
		contentType, body string
	}{
		{"registered metrics", registry, http.StatusOK, "text/plain; version=0.0.4", "# HELP depth How deep.\n# TYPE depth gauge\ndepth 7\n"},
		{"metrics that cannot be gathered", failing, http.StatusInternalServerError, "text/plain", "out of order"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			metricsHandler(test.gatherer)(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.body) || !strings.HasPrefix(w.Header().Get("Content-Type"), test.contentType) {
				t.Errorf("%d, %s\n%s", w.Code, w.Header(), w.Body)
			}
		})
	}
}
