package httplink

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what a Hub does. A nil *Metrics counts nothing.
type Metrics struct {
	streams prometheus.Gauge
	refused prometheus.Counter
}

// NewMetrics registers the metrics of a Hub.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_agent_streams",
			Help: "Agents that hold a stream of orders open.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_http_refused_reports_total",
			Help: "Reports of a newer wire version than the control plane knows; each is logged.",
		}),
	}
	reg.MustRegister(m.streams, m.refused)
	return m
}

func (m *Metrics) stream(change float64) {
	if m != nil {
		m.streams.Add(change)
	}
}

func (m *Metrics) refuse() {
	if m != nil {
		m.refused.Inc()
	}
}
