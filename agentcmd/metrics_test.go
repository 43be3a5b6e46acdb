package agentcmd

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// broken collects nothing but an error.
type broken struct{}

func (broken) Describe(chan<- *prometheus.Desc) {}

func (broken) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.NewInvalidMetric(prometheus.NewDesc("depth", "How deep.", nil, nil), errors.New("out of order"))
}

func TestMetricsHandler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "depth", Help: "How deep."})
	registry.MustRegister(gauge)
	gauge.Set(7)
	failing := prometheus.NewRegistry()
	failing.MustRegister(broken{})
	tests := []struct {
		name string
		from prometheus.Gatherer
		code int
		// Prometheus 3 refuses an answer without the type of its content.
		contentType, body string
	}{
		{"what is registered", registry, http.StatusOK, "text/plain; version=0.0.4", "# HELP depth How deep.\n# TYPE depth gauge\ndepth 7\n"},
		{"what cannot be gathered", failing, http.StatusInternalServerError, "text/plain", "out of order"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			metricsHandler(test.from)(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.body) || !strings.HasPrefix(w.Header().Get("Content-Type"), test.contentType) {
				t.Errorf("%d, %s\n%s", w.Code, w.Header(), w.Body)
			}
		})
	}
}
