package httplink

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of a Hub. A nil *Metrics counts nothing.
type Metrics struct {
	streams prometheus.Gauge
	refused prometheus.Counter
}

// NewMetrics returns the metrics of a Hub and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_agent_streams",
			Help: "Agents with an open stream of orders.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_http_refused_reports_total",
			Help: "Reports of a newer version than the control plane supports; each is logged.",
		}),
	}
	reg.MustRegister(m.streams, m.refused)
	return m
}

func (m *Metrics) addStreams(change float64) {
	if m != nil {
		m.streams.Add(change)
	}
}

func (m *Metrics) countRefused() {
	if m != nil {
		m.refused.Inc()
	}
}
